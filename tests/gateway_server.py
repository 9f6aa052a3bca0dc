"""A real gateway on 127.0.0.1, in a thread with an event loop of its own, for tests to talk to.

::

    with Serving(config, lambda alias, name: Scripted("12")) as gateway:
        ... # ask gateway.base_url
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import uvicorn

from poise.config import Alias, Config
from poise.serve.app import create_app
from poise.serve.gateway import Gateway
from poise.types import Backend

Connect = Callable[[Alias, str | None], Backend]


class Serving:
    """``config`` served, by back-ends that ``connect`` makes (None: those of the configuration).

    ``base_url`` is what an OpenAI client takes; ``gateway`` the parts, to look at. Leaving the
    block stops it as SIGTERM would, and raises what the server raised.
    """

    def __init__(self, config: Config, connect: Connect | None = None):
        self.app = create_app(config, connect)
        settings = uvicorn.Config(
            self.app,
            port=0,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, round(config.serve.drain_seconds)),
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._problem: BaseException | None = None

    @property
    def base_url(self) -> str:
        """With the ``/v1`` that OpenAI clients want."""
        return f"{self.root}/v1"

    @property
    def root(self) -> str:
        """Without it."""
        (socket, *_) = self._server.servers[0].sockets
        return f"http://127.0.0.1:{socket.getsockname()[1]}"

    @property
    def gateway(self) -> Gateway:
        """The gateway's parts. Its event loop is another thread's: only look."""
        return self.app.state.gateway

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the gateway did not start") from self._problem
            self._thread.join(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the gateway did not stop"
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve())
        except BaseException as problem:  # noqa: BLE001 - raised where the test can see it
            self._problem = problem


def sse(lines: Sequence[str]) -> list[Mapping[str, Any] | str]:
    """The events of a stream: JSON where it is, comments with their colon, ``[DONE]``."""
    import json

    events: list[Mapping[str, Any] | str] = []
    for line in lines:
        if line.startswith("data: {"):
            events.append(json.loads(line[6:]))
        elif line.startswith("data: "):
            events.append(line[6:])
        elif line.startswith(":"):
            events.append(line)
    return events
