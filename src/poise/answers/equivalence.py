"""Asks a child process whether two mathematical expressions are equal, and kills it if it hangs.

Computer algebra has no bound on time or memory, and some of it cannot be interrupted from within
Python. So it runs in one child process that is kept between questions, killed after a timeout or
a crash, and started again at the next question. The child is a plain interpreter on
``equivalence_child.py``: it does not import the caller's program (``multiprocessing`` would, and
would run an unguarded script a second time, model calls included), it ends when its parent does,
and it ignores the parent's Ctrl-C.

It does not know: LaTeX, answers, or what equal means.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from poise.errors import PoiseError, UsageError

__all__ = ["Equivalence"]

START_SECONDS = 60.0
"""Most seconds for the child to import computer algebra (once; a cold disk is slow)."""

_CHILD = Path(__file__).with_name("equivalence_child.py")


class Equivalence:
    """Equality of expressions, decided within ``timeout_seconds`` a question.

    Threads may share one object; their questions wait for each other. The child starts with the
    first question.
    """

    def __init__(self, timeout_seconds: float = 5.0):
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def same(self, a: str, b: str) -> bool:
        """Whether ``a`` and ``b`` (LaTeX or plain, without delimiters) are equal.

        False where that cannot be shown: one of them cannot be parsed, the timeout passed, or the
        child crashed. Raises UsageError when math-verify is not installed, PoiseError when the
        child does not start.
        """
        with self._lock:
            child = self._running()
            reply = self._exchange(child, json.dumps([a, b]), self.timeout_seconds)
            return reply == b"same\n"

    def close(self) -> None:
        """End the child; the next question starts another. Calling it twice does no harm."""
        with self._lock:
            self._end()
        atexit.unregister(self.close)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            # After a fork the child still belongs to the parent process: two readers on one pipe
            # would get each other's verdicts.
            self._child, self._owner = None, os.getpid()
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        # -P: this package has files named like modules of the standard library (json, math).
        command = [sys.executable, "-P", str(_CHILD), str(2 * self.timeout_seconds)]
        child = self._child = subprocess.Popen(  # noqa: S603 - our own file, by its full path
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        atexit.unregister(self.close)  # a restart must not register twice
        atexit.register(self.close)
        greeting = self._exchange(child, None, START_SECONDS)
        if greeting == b"missing\n":
            self._end()
            raise UsageError("comparing maths needs math-verify: pip install 'poise[maths]'")
        if greeting != b"ready\n":
            self._end()
            raise PoiseError(
                f"the process that compares maths did not start: run {sys.executable} -c "
                "'import math_verify' to see why"
            )
        return child

    def _exchange(self, child: subprocess.Popen[bytes], line: str | None, seconds: float) -> bytes:
        """Send ``line`` and read one back; empty, with the child ended, on a timeout or a crash."""
        assert child.stdin is not None
        assert child.stdout is not None
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            child.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        answered = False
        try:
            if line is not None:
                child.stdin.write(line.encode() + b"\n")
                child.stdin.flush()
            reply = child.stdout.readline()
            answered = bool(reply)
        except OSError:
            reply = b""
        finally:
            timer.cancel()
            timer.join()
            # An interrupted question leaves its reply in the pipe, where the next would read it.
            if not answered or expired.is_set():
                self._end()
        return reply

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
