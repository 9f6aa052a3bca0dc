"""What the tests of a running gateway share: its configuration, a key, a look inside, its store.

::

    with Watched(settings(tmp_path), scripted) as gateway:
        assert gateway.chat("open").status_code == 200
        gateway.settle()                      # no task, no place, no reservation is left
    assert decisions(tmp_path)[0]["stop"] == "single"
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx2

from gateway_server import Serving
from poise import arms
from poise.backends import Scripted
from poise.config import Alias, Config, Key, Serve, Store, Upstream
from poise.config.tables import PerMillion
from poise.types import Backend, Batch, Meter, Request

SECRET = "sk-callers-own-4f1c"  # noqa: S105 - a key of these tests
AUTHORISED = {"authorization": f"Bearer {SECRET}"}
PROMPT = "What is the secret sum of 5 and 7?"
PLENTY = 10**9
"""A cap that is kept, and never reached."""

Made = Callable[[], Backend]


def key(name: str = "team", secret: str = SECRET, **more: Any) -> Key:
    """A key that opens everything, under caps that are far away."""
    stated: dict[str, Any] = {
        "scopes": ("chat", "outcomes", "metrics"),
        "samples": PLENTY,
        "tokens": PLENTY,
        "period": "ever",
    }
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return Key(name=name, sha256=digest, **(stated | more))


def aliases(**more: Any) -> tuple[Alias, ...]:
    """``open`` for anything, ``number`` for four samples of a number; both on the upstream lab."""
    stated: dict[str, Any] = {"upstream": "lab", "model": "faulty", "audit_rate": 0.0} | more
    four = "fixed:max_samples=4"
    return (
        Alias(name="open", **stated),
        Alias(name="number", kind="number", policy=four, **stated),
    )


def settings(
    folder: Path,
    *,
    base_url: str = "http://127.0.0.1:9/v1",
    upstream: Mapping[str, Any] | None = None,
    serve: Mapping[str, Any] | None = None,
    store: Mapping[str, Any] | None = None,
    **more: Any,
) -> Config:
    """A gateway with everything on: a key with caps, prices, a store in ``folder``."""
    lab = {"name": "lab", "base_url": base_url, "check_every": 0.0} | dict(upstream or {})
    own = {"heartbeat": 5.0, "drain_seconds": 5.0, "reload_every": 0.0} | dict(serve or {})
    price = PerMillion(date="2026-11-01", prompt=1.0, completion=2.0)
    stated: dict[str, Any] = {
        "upstream": (Upstream(**lab),),
        "alias": aliases(),
        "key": (key(),),
        "prices": {"faulty": price},
        "store": Store(**({"path": str(folder / "poise.db")} | dict(store or {}))),
        "serve": Serve(**own),
    }
    return Config(**(stated | more))


class Watched(Serving):
    """A gateway that tells what is going on inside it, with a client that has a key.

    ``backend``: makes what every alias is asked through; None: what the configuration says.
    """

    def __init__(self, config: Config, backend: Backend | None = None):
        self.config = config
        self.loop: asyncio.AbstractEventLoop | None = None

        def connect(alias: Alias, name: str | None) -> Backend:
            self.loop = asyncio.get_running_loop()
            if backend is not None:
                return backend
            assert name is not None
            return arms.server(config.find_upstream(name), alias.model)

        super().__init__(config, connect)

    def __enter__(self) -> Self:
        super().__enter__()
        self.client = httpx2.Client(base_url=self.root, headers=AUTHORISED, timeout=20)
        self._tasks = self.tasks()
        return self

    def __exit__(self, *problem: object) -> None:
        self.client.close()
        super().__exit__(*problem)

    def body(self, model: str, **more: Any) -> dict[str, Any]:
        """A chat request for ``model``."""
        return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}

    def chat(self, model: str = "open", **more: Any) -> httpx2.Response:
        """Ask, and read the reply to its end."""
        return self.client.post("/v1/chat/completions", json=self.body(model, **more))

    @contextlib.contextmanager
    def streaming(self, model: str = "open", **more: Any) -> Iterator[Iterator[str]]:
        """Ask for a stream, on a connection of its own; leaving the block closes it."""
        body = self.body(model, stream=True, **more)
        with (
            httpx2.Client(base_url=self.root, headers=AUTHORISED, timeout=20) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            assert response.status_code == 200, response.read()
            yield response.iter_lines()

    def send(self, body: Mapping[str, Any], *, path: str = "/v1/chat/completions") -> Caller:
        """Send a request and leave the reply where it is; to be closed."""
        return Caller(self.root, json.dumps(body).encode(), path)

    def inside(self, look: Callable[[], Any]) -> Any:
        """What ``look`` returns, run in the gateway's own event loop."""

        async def run() -> Any:
            return look()

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def tasks(self) -> int:
        """Tasks in the gateway's event loop, the one that counts aside."""
        return self.inside(lambda: len(asyncio.all_tasks()) - 1)

    def held(self) -> Mapping[str, Any]:
        """Everything that a request may leave behind and must not; {}: nothing."""

        def look() -> Mapping[str, Any]:
            gateway = self.gateway
            admission, budgets = gateway.admission, gateway.answering.budgets
            accounts = () if budgets is None else budgets._accounts.values()
            open_ = {n: v for a in accounts for n, v in a.open.items() if abs(v) > 1e-9}
            replicas = [r for served in gateway.aliases for r in served.upstreams.replicas]
            found = {
                "tasks": max(0, len(asyncio.all_tasks()) - 1 - self._tasks),
                "under way": admission.under_way,
                "waiting": admission.waiting,
                "by key": dict(admission._by_key),
                "requests with a lease": sum(a.busy() for a in accounts),
                "reservations": open_,
                "calls": sum(replica.running for replica in replicas),
                "behind": len(gateway.background._tasks),
            }
            return {name: value for name, value in found.items() if value}

        return self.inside(look)

    def settle(self, seconds: float = 5.0) -> None:
        """Wait until nothing is left of any request, or fail saying what is."""
        until(lambda: not self.held(), seconds)
        left = self.held()
        assert not left, left

    def charged(self, cap: str = "tokens", name: str = "team") -> float:
        """What the cap of a key counts as spent or held."""

        def look() -> float:
            budgets = self.gateway.answering.budgets
            assert budgets is not None
            account = budgets._accounts.get(name)
            return 0.0 if account is None else account.charged[cap]

        return self.inside(look)

    def metric(self, name: str) -> dict[str, float]:
        """The values of a counter by its labels as they are written."""

        def look() -> dict[str, float]:
            return {
                ",".join(f'{label}="{value}"' for label, value in one.labels.items()): one.value
                for family in self.gateway.metrics.registry.collect()
                for one in family.samples
                if one.name == name
            }

        return self.inside(look)


class Tally(Scripted):
    """A script that counts what it generated, whatever became of the call.

    ``generated``: completion tokens; ``read``: prompt tokens of calls that generated anything;
    ``samples``: draws that were given out (a follow-up is none).
    """

    def __init__(self, draws: Any, **more: Any):
        super().__init__(draws, model="faulty", **more)
        self.generated = self.read = self.samples = 0

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        return self._done(request, await super().sample(request, _Counted(self, request, meter)))

    async def relay(
        self, request: Request, meter: Meter | None, listen: Callable[[Mapping[str, Any]], None]
    ) -> Batch:
        counted = _Counted(self, request, meter)
        return self._done(request, await super().relay(request, counted, listen))

    def _done(self, request: Request, batch: Batch) -> Batch:
        self.samples += 0 if request.follow_up else len(batch.replies)
        return batch


class _Counted:
    """Counts for the script what it tells the meter."""

    def __init__(self, script: Tally, request: Request, meter: Meter | None):
        self._script, self._meter = script, meter
        self._prompt = sum(len(str(one["content"]).split()) for one in request.messages)

    def queued(self, waiting: bool) -> None:
        if self._meter is not None:
            self._meter.queued(waiting)

    def received(self, tokens: int) -> None:
        self._script.generated += tokens
        self._script.read, self._prompt = self._script.read + self._prompt, 0
        if self._meter is not None:
            self._meter.received(tokens)


class Caller:
    """A client that has sent its request on a bare connection, and may go away at any time."""

    def __init__(self, root: str, content: bytes, path: str, *, only: int | None = None):
        """``only``: bytes of the body that are sent; None: all that were promised."""
        host, _, port = root.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {SECRET}\r\n"
        head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        self.socket.sendall(head.encode() + content[:only])

    def read_until(self, mark: bytes) -> bytes:
        """Read till ``mark`` has come."""
        read = b""
        while mark not in read:
            part = self.socket.recv(65536)
            assert part, read
            read += part
        return read

    def read(self) -> bytes:
        """Read to the end of the connection."""
        parts = []
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def leave(self) -> None:
        """Close the connection, as a client does that was ended."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Wait till ``condition`` holds, at most ``seconds``; whether it does."""
    deadline = time.monotonic() + seconds
    while not (met := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.005)
    return met


def decisions(folder: Path) -> list[dict[str, Any]]:
    """What the store in ``folder`` holds, oldest first, read as any other program would."""
    file = folder / "poise.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM decisions ORDER BY rowid").fetchall()
    return [dict(row) for row in rows]


def leased(folder: Path) -> dict[str, dict[str, Any]]:
    """What the store counts as handed out of each key's caps."""
    file = folder / "poise.db"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return {row["key"]: dict(row) for row in connection.execute("SELECT * FROM leases")}


def events(lines: Iterator[str]) -> list[dict[str, Any]]:
    """The JSON events of a stream that ended as one should."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1:] == ["[DONE]"], data[-1:]
    return [json.loads(one) for one in data[:-1]]
