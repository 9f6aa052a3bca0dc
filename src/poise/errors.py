"""Everything Poise raises on purpose, and what a caller should do about it.

::

    PoiseError                      exit code
    ├── UsageError      ValueError      2     a wrong option, policy or argument
    ├── InputError      ValueError      3     a file or line that cannot be read; knows where
    │   └── ConfigError                 3     the same, for poise.toml
    ├── RefusedError                    4     infeasible, or too little data to say
    ├── MissingEvidence LookupError     3     a signal's evidence is absent
    │   └── Unusable                    3     it is there, and cannot be read
    ├── CapReached                      1     a spending cap leaves no room for the next call
    └── BackendError    OSError         5     asking a model failed; says whether a retry helps
        ├── Unavailable  ConnectionError      nothing was sent; retry helps
        ├── RateLimited                       429; nothing was generated; retry helps
        ├── ServerFault                       5xx; fate unknown; retry helps
        ├── TimedOut     TimeoutError         no reply in time; fate unknown; retry helps
        ├── StreamCut                         the reply broke off; fate unknown; retry helps
        ├── MalformedReply ValueError         unreadable reply; fate unknown; retry helps
        ├── Rejected                          4xx; nothing was generated; a retry does not help
        │   └── Unauthorized PermissionError
        ├── ModelMissing FileNotFoundError    no embedded model or engine installed
        └── Exhausted                         a stored pool holds no further sample

Each message is one line: what is wrong, where, and what to do. To add an error: derive it from the
nearest branch and from the standard-library error it stands for, draw it above, and give it a
sentence. ``tests/test_errors.py`` checks the drawing, the exit codes and pickling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = [
    "BackendError",
    "CapReached",
    "ConfigError",
    "Exhausted",
    "InputError",
    "MalformedReply",
    "MissingEvidence",
    "ModelMissing",
    "PoiseError",
    "RateLimited",
    "RefusedError",
    "Rejected",
    "ServerFault",
    "StreamCut",
    "TimedOut",
    "Unauthorized",
    "Unavailable",
    "Unusable",
    "UsageError",
]


class PoiseError(Exception):
    """Base of every error that Poise raises on purpose. ``str(error)`` is one line for a person."""

    exit_code: int = 1


class UsageError(PoiseError, ValueError):
    """An option, a policy or an argument that makes no sense."""

    exit_code = 2


class InputError(PoiseError, ValueError):
    """A file, a line or a record that cannot be used; ``path`` and ``line`` (from 1) say where."""

    exit_code = 3

    def __init__(self, problem: str, path: str | Path | None = None, line: int | None = None):
        self.problem, self.path, self.line = problem, path, line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + problem)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.path, self.line)


class ConfigError(InputError):
    """A configuration file with an unknown key, a wrong type or a dangling name."""


class RefusedError(PoiseError):
    """The request is understood and declined: infeasible, or the data cannot carry the claim."""

    exit_code = 4


class MissingEvidence(PoiseError, LookupError):
    """A signal was asked for whose evidence is not there (no log-probabilities, no reply, …)."""

    exit_code = 3


class Unusable(MissingEvidence):
    """Evidence came and cannot be read: which says something about the question it is about."""


class CapReached(PoiseError):
    """A hard cap leaves no room for the call; ``cap`` names it (samples, tokens, usd, seconds)."""

    def __init__(self, cap: str, message: str):
        self.cap = cap
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cap, str(self))


class BackendError(PoiseError, OSError):
    """Asking a model failed.

    ``retryable``: whether the same call may succeed later. ``fate_known``: whether it is certain
    that nothing was generated; if not, the ledger charges the call in full. ``retry_after``:
    seconds the server asked to wait, if it did.
    """

    exit_code = 5
    retryable: bool = False
    fate_known: bool = True

    def __init__(self, message: str, *, retry_after: float | None = None):
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.retry_after)


def _rebuild(cls: type[BackendError], message: str, retry_after: float | None) -> BackendError:
    """Unpickle a back-end error (its keyword argument is out of reach of the default protocol)."""
    return cls(message, retry_after=retry_after)


class Unavailable(BackendError, ConnectionError):
    """The server could not be reached; nothing was sent."""

    retryable = True


class RateLimited(BackendError):
    """The server answered 429; nothing was generated."""

    retryable = True


class ServerFault(BackendError):
    """The server answered 5xx; it may or may not have generated (and billed) something."""

    retryable = True
    fate_known = False


class TimedOut(BackendError, TimeoutError):
    """No reply within the time limit; the server may still be generating."""

    retryable = True
    fate_known = False


class StreamCut(BackendError):
    """The connection closed in the middle of a reply."""

    retryable = True
    fate_known = False


class MalformedReply(BackendError, ValueError):
    """The reply is not what the protocol promises (broken JSON, no choices, …)."""

    retryable = True
    fate_known = False


class Rejected(BackendError):
    """The server understood and declined the request (4xx); repeating it does not help."""


class Unauthorized(Rejected, PermissionError):
    """The server wants a key, or another one (401, 403)."""


class ModelMissing(BackendError, FileNotFoundError):
    """No embedded model file, or no engine to run it."""


class Exhausted(BackendError):
    """A stored pool has no further sample for this question."""
