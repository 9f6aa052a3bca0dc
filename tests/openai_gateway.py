"""A gateway with every sort of alias and key, and the official ``openai`` client to ask it with."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openai import OpenAI
from pydantic import BaseModel

from fault_server import Behaviour, FaultServer, Script
from gateway_server import Serving
from poise.config import Alias, Caps, Config, Key, PerMillion, Serve, Store, Upstream
from poise.types import Arm, Kind
from test_profile import made
from told import calls, told

__all__ = [
    "COUNT",
    "EMOR",
    "FORM",
    "KEY",
    "OSLO",
    "ROME",
    "Weather",
    "client_of",
    "everything",
    "in_front_of",
    "only",
    "poise_of",
]

KEY = "the key of these tests"
FORM = {"type": "json_object"}
COUNT = [{"role": "user", "content": "Count."}]
URN = {"temperature": 1, "max_tokens": 512}


class Weather(BaseModel):
    """Look up the weather."""

    city: str
    days: int = 1


ROME = calls("Weather", '{"city": "Rome", "days": 2}')
EMOR = calls("Weather", '{"days":2,"city":"Rome"}')
OSLO = calls("Weather", '{"city": "Oslo"}')


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def configured(folder: Path) -> Config:
    """Every sort of alias and key; the profile is of a model that is called ``urn``.

    Its questions are not worded as those of a test, so any wording is in its domain.
    """
    profile = made()
    prompt = Arm(told()).prompt.hash(Kind.NUMBER)
    arm = {**profile.arm, "engine": "scripted", "decoding": URN, "prompt_hash": prompt}
    path = folder / "urn.json"
    domain = dataclasses.replace(profile.domain, threshold=0.0)
    dataclasses.replace(profile, arm=arm, domain=domain).save(path)
    return Config(
        alias=(
            Alias(name="chat", model="m"),
            Alias(name="number", model="m", kind="number"),
            Alias(name="priced", model="m", kind="number"),
            Alias(name="urn", model="urn", kind="number", profile=str(path), decoding=URN),
            Alias(name="shadow", model="m", kind="number", mode="shadow"),
            Alias(name="slow", model="slow", kind="number"),
            Alias(name="lab/small", model="m"),
        ),
        key=(
            Key(name="all", sha256=digest(KEY), scopes=("chat", "outcomes", "metrics")),
            Key(name="asks", sha256=digest("asks"), scopes=("chat",), aliases=("chat",)),
            Key(name="tells", sha256=digest("tells"), scopes=("outcomes",)),
            Key(name="poor", sha256=digest("poor"), samples=2, period="ever"),
            Key(name="single", sha256=digest("single"), concurrency=1),
        ),
        prices={"m": PerMillion(date="2026-11-01", prompt=1.0, completion=1_000.0)},
        store=Store(path=str(folder / "decisions.db")),
        serve=Serve(max_body=20_000, caps=Caps(max_samples=16)),
    )


def everything(folder: Path) -> Serving:
    """The gateway, with its files in ``folder``."""

    def connect(alias: Alias, upstream: str | None) -> Any:
        model = alias.model or "m"
        return told(model=model, latency=1.0 if model == "slow" else 0.0)

    return Serving(configured(folder), connect)


def client_of(gateway: Serving, key: str = KEY, **more: Any) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=key, **{"max_retries": 0, **more})


@contextlib.contextmanager
def in_front_of(server: FaultServer, **more: Any) -> Iterator[OpenAI]:
    """A client of a gateway that stands before a real server."""
    wanted = Config(
        upstream=(Upstream(name="lab", base_url=server.base_url),),
        alias=(
            Alias(name="chat", upstream="lab"),
            Alias(name="number", upstream="lab", kind="number"),
        ),
        **more,
    )
    with Serving(wanted) as serving, client_of(serving, "anything") as asking:
        yield asking


def only(behaviour: Behaviour) -> Script:
    """The server does so when it is asked to count; what a back-end asks first it answers well."""
    return lambda body, _: behaviour if body["messages"] == COUNT else Behaviour()


def poise_of(reply: Any) -> dict[str, Any]:
    """What Poise says in a completion or a chunk."""
    said: dict[str, Any] = reply.model_extra["poise"]
    return said
