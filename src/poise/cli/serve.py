"""Serve the OpenAI-compatible gateway. On the embedded model, to this machine only, by default."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poise.cli import options
from poise.config import METRICS_ENV, SERVED_ENV, Config, load
from poise.errors import ModelMissing, UsageError

if TYPE_CHECKING:
    from poise.serve.aliases import Aliases

MOST_WORKERS = 64
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def serve(
    config: options.ConfigFile = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; beyond this machine needs keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0: any free one.")] = 8100,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes; each has its own connections and model.")
    ] = 1,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Where decisions are kept; in place of [store] path."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", help="DEBUG, INFO (a line a request), WARNING or ERROR."),
    ] = None,
) -> None:
    """Serve the gateway until it is told to stop (SIGTERM finishes what is under way)."""
    if not 0 <= port <= 65535 or not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"--port is 0 to 65535, and --workers 1 to {MOST_WORKERS}")
    if store is not None and not store.parent.is_dir():
        raise UsageError(f"--store {store}: there is no folder {store.parent}")
    wanted = _with_flags(load(config), store, log_level)
    if not (wanted.key or _is_loopback(host)):
        raise UsageError(
            f"--host {host} can be reached from elsewhere, and no [[key]] is configured; add one,"
            " or listen on 127.0.0.1"
        )
    _run(wanted, host, port, workers)


def _with_flags(wanted: Config, store: Path | None, log_level: str | None) -> Config:
    if store is not None:
        kept = wanted.store.model_copy(update={"path": str(store)})
        wanted = wanted.model_copy(update={"store": kept})
    if log_level is not None:
        if log_level.upper() not in LEVELS:
            raise UsageError(f"--log-level {log_level}: use {', '.join(LEVELS)}")
        own = wanted.serve.model_copy(update={"log_level": log_level.upper()})
        wanted = wanted.model_copy(update={"serve": own})
    return wanted


def _run(wanted: Config, host: str, port: int, workers: int) -> None:
    try:
        import uvicorn  # noqa: PLC0415 - an optional extra

        from poise.serve import logs  # noqa: PLC0415 - it too
        from poise.serve.gateway import check, open_store  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModelMissing(
            f"the gateway is not installed ({error.name}): pip install 'poise[serve]'"
        ) from error
    logs.set_up(wanted.serve.log_level)
    # What cannot work is said in one line here, and not in a worker's traceback.
    _say(check(wanted), wanted, host, port)
    opened = open_store(wanted)
    if opened is not None:
        asyncio.run(opened.aclose())
    os.environ[SERVED_ENV] = wanted.model_dump_json()
    # Uvicorn ends well on SIGTERM and then raises it again, which would count as being killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        if workers > 1:  # one scrape then gives the sums over all of them
            shared = stack.enter_context(tempfile.TemporaryDirectory(prefix="poise-metrics-"))
            os.environ[METRICS_ENV] = shared
        uvicorn.run(
            "poise.serve.app:served",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(wanted.serve.drain_seconds)),
        )


def _say(aliases: Aliases, wanted: Config, host: str, port: int) -> None:
    """Where it listens and what for, on stderr."""
    shown = f"[{host}]" if ":" in host else host
    names = ", ".join(served.name for served in aliases)
    kept = wanted.store.path or "nowhere (--store FILE)"
    keys = f"{len(wanted.key)} keys" if wanted.key else "no key, this machine only"
    print(  # noqa: T201
        f"poise serves {names} at http://{shown}:{port}/v1; {keys}; decisions kept: {kept}",
        file=sys.stderr,
        flush=True,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
