"""How a server is reached: logins in its URL, proxies, packed replies, sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop

from fault_server import Behaviour, FaultServer
from http_client import ASK, KNOWN, LONG, Count, both_ways, http, using
from poise.backends import Http
from poise.errors import MalformedReply, Rejected, StreamCut, UsageError
from poise.types import Batch

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, **more: object) -> Batch:
    async def go() -> Batch:
        backend = Http(url, "m", engine="tests", capabilities=KNOWN, timeout=10.0, **more)
        try:
            return await backend.sample(ASK)
        finally:
            await backend.aclose()

    return asyncio.run(go())


# -- logins -------------------------------------------------------------------------------------


def test_a_login_in_the_url_travels_as_basic_and_stands_above_the_key() -> None:
    with FaultServer() as server:
        url = server.base_url.replace("http://", "http://someone:hunter%202@")
        ask(url, api_key="sk-7")
        sent = server.requests[0].headers
    assert sent["authorization"] == "Basic c29tZW9uZTpodW50ZXIgMg=="
    assert sent["host"] == f"127.0.0.1:{server.port}"


# -- proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_server_is_asked_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    with FaultServer() as proxy:
        monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
        # A proxy is told the whole URL, for which this one has no route.
        with pytest.raises(Rejected, match="no such route: POST http://model.invalid/v1/chat"):
            ask("http://model.invalid/v1")


@pytest.mark.parametrize("spared", ["127.0.0.1", "*", "127.0.0.0/8", "model.org, 127.0.0.0/8"])
def test_hosts_and_networks_that_need_no_proxy_are_asked_directly(
    monkeypatch: pytest.MonkeyPatch, spared: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:1")
    monkeypatch.setenv("no_proxy", spared)
    with FaultServer() as server:
        assert len(ask(server.base_url).replies) == 1


@pytest.mark.parametrize("proxy", ["ftp://host:1", "http://[::1", "socks4://u:hunter2@host"])
def test_a_proxy_that_cannot_be_used_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UsageError, match="proxy") as caught:
        Http("http://model.invalid/v1")
    assert "hunter2" not in str(caught.value)


# -- packed replies -----------------------------------------------------------------------------

CHOICE = {"index": 0, "finish_reason": "stop"}
WHOLE = json.dumps({"choices": [CHOICE | {"message": {"content": "größer"}}]}).encode()
EVENTS = (
    f"data: {json.dumps({'choices': [CHOICE | {'delta': {'content': 'größer'}}]})}\n\n".encode()
)


@both_ways
@pytest.mark.parametrize("packet", [None, 7])
def test_a_reply_that_came_packed_is_unpacked(packet: int | None, stream: bool) -> None:
    headers = {"Content-Encoding": "gzip"}
    if stream:
        headers["Content-Type"] = "text/event-stream"
    body = gzip.compress(EVENTS if stream else WHOLE)
    with FaultServer(Behaviour(body=body, headers=headers, packet=packet)) as server:
        (reply,) = using(server, lambda backend: backend.sample(ASK), stream=stream).replies
        assert server.requests[0].headers["accept-encoding"] == "gzip"
    assert reply.text == "größer"


@both_ways
def test_a_reply_packed_in_a_way_that_was_not_asked_for_is_malformed(stream: bool) -> None:
    with (
        FaultServer(Behaviour(body=WHOLE, headers={"Content-Encoding": "br"})) as server,
        pytest.raises(MalformedReply, match="'br'"),
    ):
        using(server, lambda backend: backend.sample(ASK), stream=stream)


# -- what cannot be sent ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object(), {1, 2}])
def test_a_request_that_is_no_json_is_rejected_and_never_sent(value: object) -> None:
    with FaultServer() as server:
        request = type(ASK)(ASK.messages, {"stop": value})
        with pytest.raises(Rejected, match="cannot be written as JSON"):
            using(server, lambda backend: backend.sample(request))
        assert server.requests == []


# -- sockets ------------------------------------------------------------------------------------


@contextmanager
def forgetful() -> Iterator[tuple[str, list[int]]]:
    """A server that promises to keep its connections and closes each after one reply."""
    served: list[int] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]")
        served.append(1)
        writer.write(head % len(WHOLE) + WHOLE)
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", served
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("heard", [True, False], ids=["told", "not told yet"])
def test_a_connection_that_the_server_has_closed_is_not_used_again(run: type, heard: bool) -> None:
    with forgetful() as (url, served):

        async def work() -> None:
            backend = Http(url, "m", engine="tests", capabilities=KNOWN, stream=False)
            for _ in range(4):
                await backend.sample(ASK)
                if heard:
                    await asyncio.sleep(0.02)
                else:
                    time.sleep(0.02)  # noqa: ASYNC251 - the event loop must not hear of it
            await backend.aclose()

        run(work())
        assert len(served) == 4


@both_ways
def test_uvloop_does_as_well_as_asyncio(stream: bool) -> None:
    with FaultServer(Behaviour(texts=("one two three",))) as server:

        async def work() -> list[Batch]:
            backend = http(server, stream=stream, concurrency=3)
            try:
                return await asyncio.gather(*(backend.sample(ASK) for _ in range(9)))
            finally:
                await backend.aclose()

        batches = uvloop.run(work())
        assert [batch.replies[0].text for batch in batches] == ["one two three"] * 9
        assert server.until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_back_end_closed_while_it_is_used_cuts_the_calls_off(run: type) -> None:
    with FaultServer(LONG) as server:
        meter = Count()

        async def work() -> None:
            backend = http(server)
            call = asyncio.ensure_future(backend.sample(ASK, meter))
            async with asyncio.timeout(5):
                while not meter.tokens:  # noqa: ASYNC110 - the meter cannot wake anybody
                    await asyncio.sleep(0.002)
            await backend.aclose()
            with pytest.raises(StreamCut, match="closed here"):
                await call

        run(work())
        assert server.until(lambda: server.requests[0].aborted)


def test_a_host_of_several_addresses_is_tried_until_one_answers() -> None:
    with FaultServer() as server:
        assert len(ask(server.base_url.replace("127.0.0.1", "localhost")).replies) == 1


def test_after_a_rush_no_more_connections_are_kept_than_are_used() -> None:
    with FaultServer(Behaviour(latency=0.02)) as server:

        async def work(backend: Http) -> None:
            await asyncio.gather(*(backend.sample(ASK) for _ in range(6)))
            connections = backend._link().connections
            assert len(connections._idle) == 6
            for connection in list(connections._idle)[:-1]:
                connection._connection._expire_at = 0.0  # type: ignore[union-attr]
            for left in (5, 4, 3, 2, 1, 1):
                await backend.sample(ASK)
                assert len(connections._idle) == left

        using(server, work, concurrency=6)
