"""The gateway's parts, made from a configuration, started and stopped together.

One for each worker process; nothing is made on import and nothing is global. It does not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version

from poise.config import Alias, Config, environment_key, metrics_directory
from poise.errors import UsageError
from poise.serve.admission import Admission
from poise.serve.aliases import EMBEDDED_NAME, Aliases, listed
from poise.serve.answering import Answering
from poise.serve.background import Background
from poise.serve.budgets import Budgets
from poise.serve.keys import Keyring
from poise.serve.metrics import Metrics
from poise.serve.tracing import Tracer
from poise.store import Store
from poise.types import Backend

__all__ = ["Connect", "Gateway", "check", "open_store", "running"]

log = logging.getLogger("poise.serve")

Connect = Callable[[Alias, str | None], Backend]
"""Makes the back-end of an alias on one of its upstreams; None: the model in this process."""


@dataclass(slots=True)
class Gateway:
    """Everything a request meets. ``store`` None: nothing is recorded."""

    config: Config
    keyring: Keyring
    admission: Admission
    aliases: Aliases
    answering: Answering
    metrics: Metrics
    tracer: Tracer
    background: Background
    store: Store | None
    started: float

    @property
    def ready(self) -> bool:
        """Whether every alias has a server that may be asked."""
        return all(served.upstreams.ready for served in self.aliases)


@contextlib.asynccontextmanager
async def running(config: Config, connect: Connect | None = None) -> AsyncIterator[Gateway]:
    """A gateway that works, until the end of the block, and then finishes what is under way.

    Raises UsageError, ConfigError, InputError or ModelMissing for a configuration that cannot work.
    """
    gateway = _made(config, connect)
    serve = config.serve
    tasks = [asyncio.create_task(group.watch()) for group in gateway.aliases.groups]
    if serve.reload_every:
        tasks.append(asyncio.create_task(_reload(gateway, serve.reload_every)))
    try:
        yield gateway
    finally:
        ends = time.monotonic() + serve.drain_seconds
        await gateway.admission.drain(serve.drain_seconds)
        await gateway.background.finish(max(0.0, ends - time.monotonic()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for group in gateway.aliases.groups:
            await group.aclose()
        if gateway.answering.budgets is not None:
            await gateway.answering.budgets.aclose()
        if gateway.store is not None:
            await gateway.store.aclose()


def check(config: Config) -> Aliases:
    """The aliases of a configuration that can work; nothing is opened or sent.

    Raises UsageError, ConfigError, InputError or ModelMissing for one that cannot.
    """
    Keyring.from_config(config)
    aliases = Aliases(config)
    _check_caps(config, aliases)
    return aliases


def _check_caps(config: Config, aliases: Aliases) -> None:
    """Raise UsageError for caps that could not be kept."""
    for key in config.key:
        capped = (key.samples, key.tokens, key.usd) != (None, None, None)
        if capped and config.store.path is None:
            raise UsageError(
                f"key {key.name!r} has a cap, which is kept in the store; configure [store] path"
            )
    if config.serve.caps.max_usd is not None:
        for served in aliases:
            if served.price is None:
                raise UsageError(
                    f"[serve.caps] max_usd needs a price for every alias, and {served.name!r} has"
                    " none; add [prices]"
                )


def _made(config: Config, connect: Connect | None) -> Gateway:
    metrics = Metrics(
        [alias.name for alias in listed(config)],
        [EMBEDDED_NAME, *(upstream.name for upstream in config.upstream)],
        version=version("poise"),
        directory=metrics_directory(),
    )

    def called(name: str, seconds: float, error: Exception | None) -> None:
        upstream = metrics.upstream(name)
        if error is None:
            upstream.called(seconds)
        else:
            upstream.failed(error)

    aliases = Aliases(config, connect, called)
    _check_caps(config, aliases)
    keyring = Keyring.from_config(config)
    store = open_store(config)
    secret = secrets.token_bytes(32) if store is None else store.secret
    background = Background()
    answering = Answering(
        aliases,
        None if store is None else Budgets(store),
        store,
        metrics,
        background,
        config.serve,
        secret,
        content=config.store.content,
    )
    serve = config.serve
    return Gateway(
        config,
        keyring,
        Admission(serve.in_flight, serve.queue, serve.queue_seconds),
        aliases,
        answering,
        metrics,
        _tracer(serve.trace),
        background,
        store,
        time.time(),
    )


def open_store(config: Config) -> Store | None:
    """The store that the configuration names, if it names one. Raises InputError, UsageError."""
    wanted = config.store
    if wanted.path is None:
        return None
    secret = environment_key(wanted.hmac_env)
    return Store.open(
        wanted.path,
        writes=wanted.writes,
        queue=wanted.queue,
        content=wanted.content,
        secret=None if secret is None else secret.encode(),
    )


def _tracer(wanted: bool) -> Tracer:  # noqa: FBT001 - the setting itself
    tracer = Tracer.of(wanted)
    if wanted and not tracer.on:
        raise UsageError("[serve] trace needs OpenTelemetry: pip install 'poise[trace]'")
    return tracer


async def _reload(gateway: Gateway, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        for name in await asyncio.to_thread(gateway.aliases.reload):
            log.info("profile_reloaded", extra={"alias": name})
