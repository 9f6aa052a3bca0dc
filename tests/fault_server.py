"""A real HTTP/1.1 server on 127.0.0.1 that speaks OpenAI's chat completions, as badly as told to.

A script, ``(body, number) -> Behaviour``, says how each chat request is answered (``number`` counts
them from 0); without one every answer is right. The server runs in a thread with an event loop of
its own, so that a client's busy loop cannot hide what travels on the wire. It does not know Poise::

    with FaultServer(lambda body, number: Behaviour(status=503 if number == 0 else 200)) as server:
        ... # ask server.base_url
    assert len(server.requests) == 2
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Self

Body = dict[str, Any]


class UsageKind(StrEnum):
    """How token counts are reported; what is not said here is as OpenAI does it."""

    TOTAL = "total"  # all choices; streamed: null in every chunk, then one chunk without choices
    MISSING = "missing"  # no such key
    NULL = "null"  # null everywhere
    EACH = "each"  # streamed: one chunk for each choice (llama.cpp)
    ONE = "one"  # the first choice's only
    RUNNING = "running"  # streamed: the count so far on every chunk, and no chunk of its own


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one chat request is answered. Seconds are wall clock; a token is a word."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes | None = None  # sent as it is, whatever was asked (HTML, broken JSON, …)
    texts: tuple[str, ...] | None = None  # by choice, repeating; None: numbers made from the seed
    choices: int | None = None  # how many come back; None: as many as asked for
    rejects: frozenset[str] = frozenset()  # body fields answered with 400 ("n": only above 1)
    latency: float = 0.0  # before the first byte; math.inf: no reply ever
    token_delay: float = 0.0  # before each token
    hang_after: int | None = None  # tokens, then silence; not streaming: silence from the start
    cut_after: int | None = None  # tokens, then the connection closes (before the end is said)
    broken_after: int | None = None  # tokens, then one chunk (or the body) is half a JSON value
    garbage: bool = False  # bytes that are not HTTP
    logprobs: bool = True  # False: none come back although asked for
    usage: UsageKind = UsageKind.TOTAL
    interleaved: bool = True  # choices of a stream take turns; False: one after the other
    heartbeats: bool = False  # an SSE comment before every event
    newline: str = "\n"  # of SSE; "\r\n" and "\r" are lawful too
    packet: int | None = None  # bytes; everything travels in pieces of this size
    finish: bool = True  # False: no choice says why it ended
    done: bool = True  # False: a stream ends without [DONE]


Script = Callable[[Body, int], Behaviour]


@dataclass(slots=True)
class Seen:
    """One chat request as it arrived, and how far its answer got."""

    body: Body
    headers: Mapping[str, str]  # names in lower case
    tokens: int = 0  # completion tokens generated (streamed: sent) so far
    aborted: bool = False  # the client closed its connection before the end
    finished: bool = False  # answered as scripted, cuts included


def date_after(seconds: float) -> str:
    """The HTTP date ``seconds`` from now, as Retry-After may state it."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def number_for(seed: object, choice: int = 0) -> str:
    """The text of a choice where the script gives none: four digits, fixed by seed and place."""
    return str(1000 + int(hashlib.sha256(f"{seed}/{choice}".encode()).hexdigest(), 16) % 9000)


class FaultServer:
    """The server as a context manager; leaving it closes every connection.

    ``models``: what ``/v1/models`` lists, None: 404. ``api_key``: 401 without it. An exception in
    the script answers 500 and is raised again on leaving.
    """

    def __init__(
        self,
        script: Script | Behaviour = Behaviour(),
        *,
        models: tuple[str, ...] | None = ("faulty",),
        owned_by: str = "tests",
        api_key: str | None = None,
    ):
        self.requests: list[Seen] = []
        self.port = self.open_connections = self.in_flight = self.most_in_flight = 0
        self._script = script
        self._models, self._owned_by, self._api_key = models, owned_by, api_key
        self._problem: Exception | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"http://127.0.0.1:{self.port}/v1"

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Wait till ``condition`` holds, at most ``seconds``; whether it does."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.002)
        return condition()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5), "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        if self._problem is not None:
            raise self._problem

    # -- inside: everything below runs in the server's thread ------------------------------------

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        running: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(_Wire(reader, writer)))
            running.add(task)
            task.add_done_callback(running.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _connection(self, wire: _Wire) -> None:
        self.open_connections += 1
        try:
            while await self._exchange(wire):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client closed the connection; what it left unfinished is marked
        finally:
            wire.writer.close()
            with contextlib.suppress(ConnectionError):
                await wire.writer.wait_closed()
            self.open_connections -= 1

    async def _exchange(self, wire: _Wire) -> bool:
        """Answer one request; whether the connection stays open."""
        line, headers, content = await wire.request()
        if self._api_key and headers.get("authorization") != f"Bearer {self._api_key}":
            return await wire.refuse(401, "a key is needed")
        if line.startswith("GET /v1/models ") and self._models is not None:
            listed = [{"id": name, "owned_by": self._owned_by} for name in self._models]
            return await wire.whole(200, json.dumps({"object": "list", "data": listed}))
        if not line.startswith("POST /v1/chat/completions "):
            return await wire.refuse(404, f"no such route: {line}")
        seen = Seen(json.loads(content), headers)
        self.requests.append(seen)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._chat(wire, seen, len(self.requests) - 1)
        except ConnectionError:
            seen.aborted = not seen.finished
            raise
        finally:
            self.in_flight -= 1

    async def _chat(self, wire: _Wire, seen: Seen, number: int) -> bool:
        try:
            script = self._script
            behaviour = script(seen.body, number) if callable(script) else script
        except Exception as error:  # noqa: BLE001 - the test, not the client, must hear of it
            self._problem = error
            return await wire.refuse(500, f"the script failed: {error!r}")
        wire.packet = behaviour.packet
        await wire.pause(behaviour.latency)
        keep = await _answer(wire, seen, behaviour, number)
        seen.finished = True
        return keep and seen.headers.get("connection") != "close"


class _Wire:
    """One connection: HTTP framing, and noticing that the client left."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.packet: int | None = None

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (text.partition(":") for text in lines)}
        content = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return line, headers, content

    async def pause(self, seconds: float) -> None:
        """Sleep, and raise ConnectionError as soon as the client has closed its side."""
        end = time.monotonic() + seconds
        while True:
            if self.reader.at_eof() or self.reader.exception() is not None:
                raise ConnectionError("the client left")
            left = end - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.005))

    async def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def whole(self, status: int, body: str | bytes, **headers: str) -> bool:
        content = body.encode() if isinstance(body, str) else body
        own = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        await self.head(status, own | headers)
        await self.pieces(content)
        return True

    async def refuse(self, status: int, message: str) -> bool:
        return await self.whole(status, json.dumps({"error": {"message": message}}))

    async def pieces(self, content: bytes, *, chunked: bool = False) -> None:
        size = self.packet or max(len(content), 1)
        for start in range(0, len(content), size):
            piece = content[start : start + size]
            # Silence keeps packets apart. Not after the last: a client may leave once it has it.
            await self.pause(0.0005 if self.packet else 0.0)
            await self.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)

    async def write(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()


async def _answer(wire: _Wire, seen: Seen, behaviour: Behaviour, number: int) -> bool:
    body = seen.body
    if behaviour.garbage:
        await wire.write(b"\x16\x03\x01\xff\x00 this is not HTTP\r\n\r\n")
        return False
    for name in sorted(behaviour.rejects & body.keys()):
        if name != "n" or body["n"] > 1:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            return await wire.refuse(400, f"Unsupported parameter: '{name}'.{hint}")
    if behaviour.status != 200 or behaviour.body is not None:
        error = json.dumps({"error": {"message": f"scripted status {behaviour.status}"}})
        content = error if behaviour.body is None else behaviour.body
        return await wire.whole(behaviour.status, content, **behaviour.headers)
    choices = _choices(body, behaviour, number)
    if body.get("stream"):
        return await _stream(wire, seen, behaviour, choices)
    return await _respond(wire, seen, behaviour, choices)


async def _respond(wire: _Wire, seen: Seen, behaviour: Behaviour, choices: list[_Choice]) -> bool:
    if behaviour.hang_after is not None:
        await wire.pause(math.inf)
    for _ in range(sum(len(choice.tokens) for choice in choices)):
        await wire.pause(behaviour.token_delay)
        seen.tokens += 1
    reply: Body = {"object": "chat.completion", "model": seen.body.get("model"), "choices": []}
    for choice in choices:
        message = {"role": "assistant", "content": "".join(choice.tokens)}
        entries = choice.entries(seen.body, behaviour)
        reply["choices"].append(choice.json(choice.finish, entries, message=message))
    if behaviour.usage is not UsageKind.MISSING:
        counted = choices[:1] if behaviour.usage is UsageKind.ONE else choices
        usage = _usage(seen.body, sum(len(choice.tokens) for choice in counted))
        reply["usage"] = None if behaviour.usage is UsageKind.NULL else usage
    content = json.dumps(reply, ensure_ascii=False).encode()
    if behaviour.broken_after is not None:
        content = content[: len(content) // 2]
    if behaviour.cut_after is not None:
        await wire.head(200, {"Content-Length": str(len(content))})
        await wire.pieces(content[: len(content) // 2])
        return False
    return await wire.whole(200, content, **behaviour.headers)


async def _stream(wire: _Wire, seen: Seen, behaviour: Behaviour, choices: list[_Choice]) -> bool:
    own = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    await wire.head(200, own | dict(behaviour.headers))
    end, broken = behaviour.newline, behaviour.broken_after
    for brought, chunk in _chunks(seen.body, behaviour, choices):
        if behaviour.cut_after is not None and seen.tokens >= behaviour.cut_after:
            return False
        if behaviour.hang_after is not None and seen.tokens >= behaviour.hang_after:
            await wire.pause(math.inf)
        if brought:
            await wire.pause(behaviour.token_delay)
        data = json.dumps(chunk, ensure_ascii=False)
        if broken is not None and seen.tokens >= broken:
            data, broken = data[: len(data) // 2], None
        ping = f": ping{end}{end}" if behaviour.heartbeats else ""
        await wire.pieces(f"{ping}data: {data}{end}{end}".encode(), chunked=True)
        seen.tokens += brought
    seen.finished = True  # a client need not wait for what follows
    if behaviour.done:
        await wire.pieces(f"data: [DONE]{end}{end}".encode(), chunked=True)
    await wire.write(b"0\r\n\r\n")
    return True


def _chunks(body: Body, behaviour: Behaviour, choices: list[_Choice]) -> Iterator[tuple[int, Body]]:
    """Every chunk of a stream, with the tokens it brings: roles, tokens, reasons, usage."""
    kind = behaviour.usage
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    sent = 0

    def chunk(choice: Body | None, usage: Body | None = None) -> Body:
        made: Body = {"object": "chat.completion.chunk", "choices": [choice] if choice else []}
        if asked and kind is UsageKind.RUNNING:
            made["usage"] = _usage(body, sent)
        elif asked and kind is not UsageKind.MISSING:
            made["usage"] = usage
        return made

    for choice in choices:
        yield 0, chunk(choice.json(None, None, delta={"role": "assistant", "content": ""}))
    turns = [(place, choice) for choice in choices for place in range(len(choice.tokens))]
    if behaviour.interleaved:
        turns.sort(key=lambda turn: (turn[0], turn[1].index))
    for place, choice in turns:
        sent += 1
        entries = choice.entries(body, behaviour)
        entry = None if entries is None else [entries[place]]
        yield 1, chunk(choice.json(None, entry, delta={"content": choice.tokens[place]}))
    for choice in choices:
        if choice.finish is not None:
            yield 0, chunk(choice.json(choice.finish, None, delta={}))
    counts = [len(choice.tokens) for choice in choices]
    closing = {UsageKind.TOTAL: [sum(counts)], UsageKind.EACH: counts, UsageKind.ONE: counts[:1]}
    for count in closing.get(kind, []) if asked else []:
        yield 0, chunk(None, _usage(body, count))


@dataclass(frozen=True, slots=True)
class _Choice:
    index: int
    tokens: tuple[str, ...]
    finish: str | None

    def entries(self, body: Body, behaviour: Behaviour) -> list[Body] | None:
        """OpenAI's log-probabilities: token k of a choice is drawn with probability 1/(k + 2)."""
        if not (body.get("logprobs") and behaviour.logprobs):
            return None
        listed, ranks = [], range(body.get("top_logprobs", 0))
        for place, token in enumerate(self.tokens):
            drawn = -math.log(place + 2)
            tops = [{"token": f"{token}{'~' * r}", "logprob": drawn - r} for r in ranks]
            listed.append({"token": token, "logprob": drawn, "top_logprobs": tops})
        return listed

    def json(self, finish: str | None, entries: list[Body] | None, **content: Body) -> Body:
        logprobs = None if entries is None else {"content": entries}
        return {"index": self.index, "finish_reason": finish, "logprobs": logprobs, **content}


def _choices(body: Body, behaviour: Behaviour, number: int) -> list[_Choice]:
    count = body.get("n") or 1 if behaviour.choices is None else behaviour.choices
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    seed = body.get("seed", f"no seed, request {number}")
    texts = behaviour.texts or [number_for(seed, index) for index in range(count)]
    made = []
    for index in range(count):
        tokens = tuple(re.findall(r"\s*\S+(?:\s+\Z)?", texts[index % len(texts)]))
        finish = "stop" if limit is None or len(tokens) <= limit else "length"
        made.append(_Choice(index, tokens[:limit], finish if behaviour.finish else None))
    return made


def _usage(body: Body, completion: int) -> Body:
    prompt = sum(len(str(message.get("content")).split()) for message in body["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": completion}
