"""Server-sent events out of bytes: however they are torn, what the standard says comes out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.backends import events as place
from poise.backends.events import Events
from poise.errors import MalformedReply

BOM = b"\xef\xbb\xbf"


def fed(*pieces: bytes) -> list[str]:
    reader = Events()
    return [data for piece in pieces for data in reader.feed(piece)]


def by_the_standard(stream: bytes) -> list[str]:
    """The data of all events, read the slow way: the whole stream as text, line by line."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found: list[str] = []
    data = ""
    for line in text.split("\n")[:-1]:
        if not line:
            found.append(data.removesuffix("\n"))
            data = ""
            continue
        name, _, value = line.partition(":")
        if name == "data":
            data += value.removeprefix(" ") + "\n"
    return [data for data in found if data]


line = st.one_of(
    st.sampled_from(
        [
            *(
                b"data",
                b"data:",
                b"data: ",
                b"data:  x",
                b"data: [DONE]",
                b"data: \xff",
                b"\xff\xfe",
            ),
            *(b": ping", b"id: 7", b"retry: 9", b"event: e", b"database: x", b" data: x"),
            *(b"", b"", b""),
        ]
    ),
    st.text("a{:}é€🙂 \u2028\x0b\x85", max_size=6).map(lambda text: b"data: " + text.encode()),
)
streams = st.tuples(
    st.sampled_from([b"", BOM]),
    st.lists(st.tuples(line, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12),
    st.sampled_from([b"", b"data: left", b"\r", b"\n"]),
).map(lambda parts: parts[0] + b"".join(a + b for a, b in parts[1]) + parts[2])


@given(streams, st.data())
def test_a_stream_says_the_same_however_it_is_torn(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=len(stream) + 1)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert fed(*pieces) == by_the_standard(stream)


@given(streams)
def test_byte_by_byte_is_no_different(stream: bytes) -> None:
    assert fed(*(bytes([byte]) for byte in stream)) == by_the_standard(stream)


def test_an_event_is_there_as_soon_as_its_empty_line_is() -> None:
    reader = Events()
    assert reader.feed(b"data: a\r\n\r") == ["a"]
    assert reader.feed(b"\n") == []
    assert reader.feed(b"data: b\n") == []
    assert reader.feed(b"\ndata: c") == ["b"]


def test_lines_of_data_are_joined_and_the_other_fields_passed_over() -> None:
    assert fed(b"event: e\ndata: a\n: c\ndata:b\nid: 1\n\n") == ["a\nb"]


def test_an_event_without_its_empty_line_is_none() -> None:
    assert fed(b"data: a\n\ndata: b\n") == ["a"]


def test_an_event_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "LARGEST", 1 << 20)
    for endless in (b"x" * 1000, b"data: " + b"x" * 993 + b"\n"):
        reader = Events()
        with pytest.raises(MalformedReply, match="1 MiB"):
            for _ in range(2000):
                assert reader.feed(endless) == []
