"""A stream of server-sent events (WHATWG HTML, section 9.2) read from bytes as they arrive.

Only what carries data matters here: names, ids, reconnection times and comments are passed over.
It knows neither sockets nor JSON.
"""

from __future__ import annotations

from poise.errors import MalformedReply

__all__ = ["Events"]

LARGEST = 16 << 20
"""Bytes one event may have: a server must not fill the memory with one that never ends."""

BOM = b"\xef\xbb\xbf"


class Events:
    """Feed the bytes in any pieces; get back the data of each event once it is complete.

    An event that is not ended by an empty line is none, as the standard has it.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line that has not ended
        self._data: list[bytes] = []  # lines of an event that has not ended
        self._size = 0
        self._first = True
        self._returned = False  # whether the last byte was a carriage return, and ended a line

    def feed(self, piece: bytes) -> list[str]:
        """The data of every event that ``piece`` completes, leaving out events without any.

        Bytes that are not UTF-8 become replacement characters. Raises MalformedReply for an event
        of more than 16 MiB.
        """
        if self._returned and piece:
            piece = piece.removeprefix(b"\n")
            self._returned = False
        if b"\r" in piece:
            self._returned = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *lines = piece.split(b"\n")
        self._line.append(first)
        self._size += len(first)
        found: list[str] = []
        if lines:
            whole = b"".join(self._line)
            if self._first:
                self._first, whole = False, whole.removeprefix(BOM)
            last = lines.pop()
            self._take(whole, found)
            for line in lines:
                self._take(line, found)
            self._line = [last]
            self._size = len(last) + sum(map(len, self._data))
        if self._size > LARGEST:
            raise MalformedReply(f"an event of more than {LARGEST >> 20} MiB")
        return found

    def _take(self, line: bytes, found: list[str]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif not line and self._data:
            data = b"\n".join(self._data) if len(self._data) > 1 else self._data[0]
            self._data.clear()
            if data:
                found.append(data.decode("utf-8", "replace"))
        elif line == b"data":
            self._data.append(b"")
