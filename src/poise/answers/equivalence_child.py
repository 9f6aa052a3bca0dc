"""The program of the child process: reads pairs of expressions, writes whether they are equal.

One JSON list ``[a, b]`` a line on standard input; ``same`` or ``other`` a line on standard output,
after a first line ``ready`` (or ``missing``: math-verify is not installed). The one argument is
the number of seconds after which a question that nobody kills ends the process by itself.

It does not know: the package around it, which it must not import. math-verify's own timeouts are
off, because they need signals; whoever asks holds the clock.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys

MEMORY_BYTES = 4 << 30
"""Most address space on Linux: a power tower asks for more than any machine has."""


def main() -> None:
    """Answer questions until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries may print; the answers keep a channel of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - not on every platform

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    try:
        import math_verify  # noqa: F401, PLC0415 - an optional package, and slow to import
    except ImportError:
        print("missing", file=answers, flush=True)
        return
    print("ready", file=answers, flush=True)
    patience = float(sys.argv[1])
    for line in sys.stdin:
        # A parent that was killed kills nobody; this clock needs no cooperation of the library.
        faulthandler.dump_traceback_later(patience, exit=True)
        a, b = json.loads(line)
        print("same" if _same(a, b) else "other", file=answers, flush=True)
        faulthandler.cancel_dump_traceback_later()


def _same(a: str, b: str) -> bool:
    """Equal in either direction: math-verify's ``verify`` is not symmetric."""
    from math_verify import parse, verify  # noqa: PLC0415 - see main

    try:
        left, right = (parse(f"${text}$", parsing_timeout=None) for text in (a, b))
        return any(
            verify(gold, answer, timeout_seconds=None)
            for gold, answer in ((left, right), (right, left))
        )
    except Exception:  # noqa: BLE001 - whatever computer algebra raises, it has shown nothing
        return False


if __name__ == "__main__":
    main()
