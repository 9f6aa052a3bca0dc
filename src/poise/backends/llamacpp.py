"""The embedded model: llama.cpp, prebuilt in xllamacpp, as a server on the loopback interface.

The engine runs inside this process on its own threads and is spoken to like any other server, so
streaming, cancelling and log-probabilities have one implementation (``http``). It listens on a
free port of 127.0.0.1 behind a random key. Slots decode in parallel and share the prompt's cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from poise.backends.http import Completed, Http
from poise.backends.weights import find_weights
from poise.errors import ModelMissing, UsageError
from poise.types import Arm, Batch, Capabilities, Kind, Meter, Prompt, Request

__all__ = ["DECODING", "PROMPT", "LlamaCpp", "embedded"]

DECODING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "max_tokens": 24}
"""Decoding stated in full: llama.cpp's own defaults, so that the arm's key leaves nothing open."""

PROMPT = Prompt(
    examples={
        Kind.NUMBER: (("What is 3 + 4?", "3 + 4 = 7"),),
        Kind.YESNO: (("Is 9 an odd number?", "Yes"), ("Is a cat a plant?", "No")),
        Kind.TEXT: (
            ("What is the opposite of good?", "bad"),
            ("What is the plural of cat?", "cats"),
            ("What is the past tense of paint?", "painted"),
        ),
    }
)
"""Worked examples by answer kind: a 135M model follows a form that it has seen."""


class LlamaCpp:
    """A GGUF model run in this process by llama.cpp.

    ``path``: the .gguf file; None finds the embedded one (``weights.find_weights``). ``slots``:
    sequences decoded in parallel, also the most draws in one request. ``context``: tokens each
    slot holds, prompt and reply together. ``threads`` None: llama.cpp's choice.

    Starts on first use and, after ``aclose``, again; may be used in several event loops. Raises
    ModelMissing, here when there is no such file, on first use when the engine is not installed
    or cannot load the file.
    """

    engine = "llama.cpp"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        slots: int = 16,
        context: int = 1024,
        threads: int | None = None,
    ):
        if not (1 <= slots <= 256 and 64 <= context <= 1 << 20):
            raise UsageError("slots must be 1 to 256 and context 64 to 1048576 tokens")
        self.path = find_weights(path)
        self.slots, self.context, self.threads = slots, context, threads
        self._server: Any = None
        self._http: Http | None = None
        self._starting = asyncio.Lock()

    @property
    def model(self) -> str:
        """The weights' file name without its ending."""
        return self.path.stem

    def sha256(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def base_url(self) -> str | None:
        """Where the engine listens, once it runs."""
        return None if self._http is None else self._http.base_url

    async def capabilities(self) -> Capabilities:
        """Known without probing: this is one engine, and its tests hold these to be true."""
        await self._start()
        return Capabilities(n=self.slots, logprobs=20, seed=True)

    async def sample(self, request: Request, meter: Meter | None = None) -> Batch:
        """Draw ``request.n`` <= ``slots`` replies in one call. Raises BackendError."""
        return await (await self._start()).sample(request, meter)

    async def relay(
        self,
        request: Request,
        meter: Meter | None,
        listen: Callable[[Mapping[str, Any]], None],
    ) -> Batch:
        """As ``sample``; ``listen`` hears each chunk as it arrives (``types.Relay``)."""
        return await (await self._start()).relay(request, meter, listen)

    async def complete(
        self, body: Mapping[str, Any], listen: Callable[[Mapping[str, Any]], None] | None
    ) -> Completed:
        """Complete a text, as ``Http.complete``. Raises BackendError."""
        return await (await self._start()).complete(body, listen)

    async def aclose(self) -> None:
        """Stop the engine."""
        client, self._http, server, self._server = self._http, None, self._server, None
        self._starting = asyncio.Lock()  # the next start may be in another event loop
        if client is not None:
            await client.aclose()
        if server is not None:
            # The engine's destructor joins its threads; that must not hold up the event loop.
            holder = [server]
            del server
            await asyncio.to_thread(holder.clear)

    async def _start(self) -> Http:
        async with self._starting:
            if self._http is None:
                key = secrets.token_urlsafe(24)
                self._server = await asyncio.to_thread(self._launch, key)
                self._http = Http(
                    f"{self._server.listening_address}/v1",
                    self.model,
                    api_key=key,
                    engine=self.engine,
                    concurrency=self.slots,
                    capabilities=Capabilities(n=self.slots, logprobs=20, seed=True),
                )
            return self._http

    def _launch(self, key: str) -> Any:
        try:
            import xllamacpp  # noqa: PLC0415 - an optional extra, heavy to load
        except ImportError as error:
            raise ModelMissing(
                "the embedded engine is not installed: pip install 'poise[local]', or name a"
                " server with --base-url"
            ) from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.model_alias = {self.model}
        params.n_parallel = self.slots
        params.n_ctx = self.slots * self.context
        params.port = 0
        params.api_keys = [key]
        params.endpoint_slots = True
        params.verbosity = -1
        if self.threads is not None:
            params.cpuparams.n_threads = self.threads
        try:
            server = xllamacpp.Server(params)
        except Exception as error:  # the binding raises bare exceptions of its own
            raise ModelMissing(f"{self.path}: llama.cpp cannot load it ({error})") from error
        _wait_until_it_works(server.listening_address, key)
        return server


def _wait_until_it_works(address: str, key: str) -> None:
    """Ask for the slots once, which its queue of tasks has to answer.

    An engine that is stopped before its queue runs never hears of it: the destructor then joins a
    thread that waits for tasks for ever, and holds Python's lock meanwhile.
    """
    host, _, port = address.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("GET", "/slots", headers={"Authorization": f"Bearer {key}"})
        connection.getresponse().read()
    finally:
        connection.close()


def embedded(engine: LlamaCpp | None = None) -> Arm:
    """The embedded model as an arm, with the decoding and the worked examples it is used with."""
    return Arm(engine or LlamaCpp(), DECODING, PROMPT)
