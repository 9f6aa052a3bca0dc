"""What the gateway adds to a call, beside a bare pass-through, other gateways and no gateway.

A scripted upstream (20 ms, then a short chat completion, streamed or whole as it is asked) is
called straight, through a 15-line FastAPI + httpx2 pass-through as the floor, through Poise with
everything on (a key, a token cap, a durable record of each decision, metrics) and, where their
Pythons are named, through LiteLLM's proxy and its-hub's server (self-consistency with budget 1).
One worker each; load, upstream and gateway share the machine. Poise asks its upstream for a stream,
as it does by default so that a call can be ended early; the others ask for whole replies.

    python benchmarks/gateway.py [--seconds 5] [--rounds 3] [--litellm PYTHON] [--its-hub PYTHON]

Rounds take turns, so that a noisy machine hits all alike; the median over rounds is reported, and
ratios within a round. Every reply is checked for its status and its text.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

LATENCY = 0.02
TEXT = "The answer is 12."
KEY = "sk-benchmark"
CONNECTIONS = (50, 200)
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


# -- the servers, each a process of its own -------------------------------------------------------


def upstream(port: int) -> None:
    """Answers every chat after 20 ms."""
    head = {"id": "c", "created": 1, "model": "m"}
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = json.dumps(
        {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    ).encode()

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + json.dumps(data).encode() + b"\n\n"

    words = [chunk({"content": word}) for word in ("The", " answer", " is", " 12", ".")]
    used = {**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    last = b"data: " + json.dumps(used).encode() + b"\n\ndata: [DONE]\n\n"
    streamed = b"".join(
        [chunk({"role": "assistant", "content": ""}), *words, chunk({}, "stop"), last]
    )

    async def chat(request: Request) -> Response:
        body = await request.json()
        await asyncio.sleep(LATENCY)
        if not body.get("stream"):
            return Response(whole, media_type="application/json")

        async def once() -> AsyncIterator[bytes]:
            yield streamed

        return StreamingResponse(once(), media_type="text/event-stream")

    async def models(_: Request) -> Response:
        listed = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]}
        return Response(json.dumps(listed), media_type="application/json")

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models)]
    uvicorn.run(Starlette(routes=routes), port=port, log_level="error", access_log=False)


def bare(port: int, url: str) -> None:
    """The least that a gateway must do: read, ask, hand on."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
        async with httpx2.AsyncClient(timeout=60, limits=limits) as app.state.client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        reply = await app.state.client.post(f"{url}/chat/completions", json=await request.json())
        return reply.json()

    uvicorn.run(app, port=port, log_level="error", access_log=False)


def poise(port: int, url: str, folder: Path) -> list[str]:
    """The command that serves the upstream through Poise, with everything on."""
    config = folder / "poise.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    config.write_text(
        f"""
[[upstream]]
name = "lab"
base_url = "{url}"
concurrency = 64
[[alias]]
name = "m"
upstream = "lab"
model = "m"
[[key]]
name = "team"
sha256 = "{digest}"
scopes = ["chat", "outcomes", "metrics"]
tokens = 1_000_000_000
[store]
path = "{folder / "poise.db"}"
"""
    )
    command = Path(sys.executable).parent / "poise"
    return [str(command), "serve", "--config", str(config), "--port", str(port)]


def litellm(python: str, port: int, url: str, folder: Path) -> list[str]:
    """The command that serves the upstream through LiteLLM's proxy."""
    config = folder / "litellm.yaml"
    model = {"model": "openai/m", "api_base": url, "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "general_settings": {"master_key": KEY},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = Path(python).parent / "litellm"
    return [str(command), "--config", str(config), "--port", str(port), "--num_workers", "1"]


def its_hub(python: str, port: int) -> list[str]:
    """The command that starts its-hub's server; ``_configure`` tells it what to do."""
    command = Path(python).parent / "its-iaas"
    return [str(command), "--port", str(port), "--log-level", "ERROR"]


def _configure(port: int, url: str) -> None:
    """One sample a question, from the upstream."""
    wanted = {
        "provider": "openai",
        "endpoint": url,
        "api_key": "none",
        "model": "m",
        "budget": 1,
        "alg": "self-consistency",
        "regex_patterns": ["(.*)"],
    }
    httpx2.post(f"http://127.0.0.1:{port}/configure", json=wanted, timeout=30).raise_for_status()


# -- the load -------------------------------------------------------------------------------------


async def _connection(port: int, request: bytes, until: float, times: list[float]) -> int:
    """Ask again and again over one connection; how many replies were not as they should be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wrong = 0
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - started)
        wrong += b" 200 " not in head[:16] or TEXT.encode() not in body
    writer.close()
    return wrong


async def _load(port: int, connections: int, seconds: float) -> dict[str, float]:
    body = json.dumps(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "What is 7 + 5? Think step by step."}],
            "temperature": 0.7,
            "max_tokens": 64,
        }
    ).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n"
        + f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    for length, counted in ((1.0, False), (seconds, True)):
        times: list[float] = []
        started = time.perf_counter()
        work = (_connection(port, request, started + length, times) for _ in range(connections))
        wrong = sum(await asyncio.gather(*work))
        took = time.perf_counter() - started
        assert not (counted and wrong), f"{wrong} wrong replies"
    times.sort()
    return {
        "rps": len(times) / took,
        "median_ms": 1e3 * times[len(times) // 2],
        "p99_ms": 1e3 * times[int(len(times) * 0.99)],
        "n": len(times),
    }


def load(port: int, connections: int, seconds: float) -> None:
    """One measurement, as JSON on stdout; in a process of its own."""
    print(json.dumps(uvloop.run(_load(port, connections, seconds))))


# -- putting it together --------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, "a server ended before it served"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise TimeoutError("a server did not start")


def _memory(process: subprocess.Popen[bytes]) -> float:
    """Resident MiB of a process and those it started."""
    total = 0
    todo = [process.pid]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text("utf-8")
            total += int(status.partition("VmRSS:")[2].split()[0])
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8")
            todo += [int(child) for child in children.split()]
    return total / 1024


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ.copy())
        try:
            _wait_for(port, process)
            yield process
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Measure, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litellm", help="a Python that has litellm[proxy]")
    parser.add_argument("--its-hub", help="a Python that has its_hub[iaas]")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        name, *rest = given.role
        if name == "load":
            return load(int(rest[0]), int(rest[1]), float(rest[2]))
        return {"upstream": upstream, "bare": bare}[name](int(rest[0]), *rest[1:])
    own = [sys.executable, __file__, "--role"]
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder, ports = Path(made), {}
        ports["direct"] = _free_port()
        url = f"http://127.0.0.1:{ports['direct']}/v1"
        commands = {"direct": [*own, "upstream", str(ports["direct"])]}
        ports |= {name: _free_port() for name in ("bare", "poise")}
        commands["bare"] = [*own, "bare", str(ports["bare"]), url]
        commands["poise"] = poise(ports["poise"], url, folder)
        if given.litellm:
            ports["litellm"] = _free_port()
            commands["litellm"] = litellm(given.litellm, ports["litellm"], url, folder)
        if given.its_hub:
            ports["its-hub"] = _free_port()
            commands["its-hub"] = its_hub(given.its_hub, ports["its-hub"])
        running = {
            name: stack.enter_context(_serving(command, ports[name]))
            for name, command in commands.items()
        }
        if given.its_hub:
            _configure(ports["its-hub"], url)
        seen: dict[tuple[str, int], list[dict[str, float]]] = {}
        for _ in range(given.rounds):
            for connections in CONNECTIONS:
                for name, port in ports.items():
                    measured = subprocess.run(
                        [*own, "load", str(port), str(connections), str(given.seconds)],
                        capture_output=True,
                        check=True,
                    )
                    seen.setdefault((name, connections), []).append(json.loads(measured.stdout))
        memory = {name: _memory(process) for name, process in running.items()}
    _report(seen, memory)
    return None


def _report(seen: dict[tuple[str, int], list[dict[str, float]]], memory: dict[str, float]) -> None:
    print(f"{'':10} conn.   req/s  of bare   median  of bare     p99   MiB")
    rows = []
    for (name, connections), runs in sorted(seen.items(), key=lambda one: one[0][1]):
        floor, direct = seen["bare", connections], seen["direct", connections]
        added = [a["median_ms"] - b["median_ms"] for a, b in zip(runs, direct, strict=True)]
        least = [a["median_ms"] - b["median_ms"] for a, b in zip(floor, direct, strict=True)]
        row = {
            "name": name,
            "connections": connections,
            **{what: statistics.median(run[what] for run in runs) for what in runs[0]},
            "rps_of_bare": statistics.median(
                a["rps"] / b["rps"] for a, b in zip(runs, floor, strict=True)
            ),
            "added_median_of_bare": statistics.median(
                a / b for a, b in zip(added, least, strict=True)
            ),
            "mib": memory[name],
        }
        rows.append(row)
        print(
            f"{name:10}{connections:6}{row['rps']:8.0f}{row['rps_of_bare']:9.2f}"
            f"{row['median_ms']:7.0f}ms{row['added_median_of_bare']:9.2f}{row['p99_ms']:6.0f}ms"
            f"{row['mib']:6.0f}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
