"""What a model name means to the gateway: defaults, tiers, shared servers, profiles that change."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from poise.backends import Scripted
from poise.config import Alias, Caps, Config, Key, Serve, Store, Tier, Upstream
from poise.errors import ConfigError, InputError, UsageError
from poise.fit import fit
from poise.policies import Beta, Fixed, Policy
from poise.profile import Profile
from poise.serve.aliases import Aliases
from poise.serve.gateway import check, running
from poise.serve.refusals import Refusal
from poise.types import Kind
from two_worlds import pools

LAB = Upstream(name="lab", base_url="http://localhost:1/v1")


def connected(config: Config) -> Aliases:
    return Aliases(config, lambda *_: Scripted("12"))


@cache
def fitted() -> Profile:
    return fit(pools(300, 8, 1), Policy(Beta(0.9, 8)))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "p.json"
    fitted().save(path)
    return path


def later(path: Path) -> None:
    """As if the file had been written a while after it was."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_without_a_configuration_the_embedded_model_answers_numbers_and_anything() -> None:
    names = {served.name: served.kind for served in connected(Config())}
    assert names == {"smollm2": None, "smollm2-number": Kind.NUMBER}


def test_servers_without_aliases_are_called_by_their_names() -> None:
    aliases = connected(Config(upstream=(LAB,)))
    assert [served.name for served in aliases] == ["lab"]


def test_an_unknown_model_is_refused_with_what_there_is() -> None:
    with pytest.raises(Refusal, match="'nope'; this gateway serves: smollm2, smollm2-number"):
        connected(Config()).find("nope")


def test_aliases_of_one_server_and_model_share_its_breaker() -> None:
    listed = (
        Alias(name="a", upstream="lab", model="m"),
        Alias(name="b", upstream="lab", model="m"),
    )
    other = Alias(name="c", upstream="lab", model="other")
    aliases = connected(Config(upstream=(LAB,), alias=(*listed, other)))
    a, b, c = (aliases.find(name).upstreams for name in "abc")
    assert a is b
    assert a.replicas[0] is not c.replicas[0]
    assert len(aliases.groups) == 2


def test_tiers_change_what_they_name_and_nothing_else(profile: Path) -> None:
    tiers = {
        "quick": Tier(max_samples=3, max_seconds=2.0),
        "sure": Tier(policy="fixed:max_samples=6"),
        "own": Tier(profile=str(profile)),
    }
    alias = Alias(name="a", policy="beta:threshold=0.9", kind=Kind.NUMBER, profile="none")
    served = connected(Config(alias=(alias,), tier=tiers)).find("a")
    plain = served.style(None)
    assert plain.policy.stop == Beta(0.9)
    assert served.style("balanced") == plain
    assert served.style("fast").policy.stop == Beta(0.9, 4)
    assert served.style("best").policy.stop == Fixed(16)
    assert served.style("quick").policy.stop == Beta(0.9, 3)
    assert served.style("quick").max_seconds == 2.0
    assert served.style("sure").policy.stop == Fixed(6)
    own = served.style("own")
    assert own.profile is not None
    assert own.policy == own.profile.policy
    with pytest.raises(Refusal, match="no tier 'best of all'; there are: balanced, best, fast"):
        served.style("best of all")


def test_an_alias_may_have_a_tier_of_its_own() -> None:
    alias = Alias(name="a", policy="beta", tier="best")
    assert connected(Config(alias=(alias,))).find("a").style(None).policy.stop == Fixed(16)


def test_a_profile_that_changes_is_read_again(profile: Path) -> None:
    alias = Alias(name="a", kind=Kind.NUMBER, profile=str(profile))
    aliases = connected(Config(alias=(alias, Alias(name="b", profile="none"))))
    assert aliases.reload() == []
    replace(fitted(), version=7).save(profile, overwrite=True)
    later(profile)
    assert aliases.reload() == ["a"]
    found = aliases.find("a").style(None).profile
    assert found is not None
    assert found.version == 7
    assert aliases.reload() == []


@pytest.mark.parametrize("harm", ["truncated", "gone"])
def test_a_profile_that_breaks_leaves_the_last_good_one(profile: Path, harm: str) -> None:
    alias = Alias(name="a", kind=Kind.NUMBER, profile=str(profile))
    aliases = connected(Config(alias=(alias,)))
    if harm == "gone":
        profile.unlink()
    else:
        profile.write_text(profile.read_text("utf-8")[:-40], "utf-8")
        later(profile)
    assert aliases.reload() == []
    kept = aliases.find("a").style(None).profile
    assert kept is not None
    assert (kept.id, kept.version) == (fitted().id, fitted().version)
    replace(fitted(), version=2).save(profile, overwrite=True)
    later(profile)
    assert aliases.reload() == ["a"]


def test_a_profile_that_cannot_be_read_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        connected(Config(alias=(Alias(name="a", profile=str(tmp_path / "none.json")),)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            Config(upstream=(LAB,), key=(Key(name="k", sha256="0" * 64, tokens=5),)),
            "kept in the store",
        ),
        (Config(upstream=(LAB,), serve=Serve(caps=Caps(max_usd=1.0))), "max_usd needs a price"),
        (Config(upstream=(LAB,), alias=(Alias(name="a", policy="no-such"),)), "no-such"),
        (Config(upstream=(LAB,), key=(Key(name="k", env="POISE_NOT_SET"),)), "POISE_NOT_SET"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_opened(config: Config, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(config)


def test_a_store_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    wrong = tmp_path / "p.db"
    wrong.write_text("not a database", "utf-8")
    config = Config(upstream=(LAB,), store=Store(path=str(wrong)))

    async def start() -> None:
        async with running(config, lambda *_: Scripted("12")):
            pass

    import asyncio

    with pytest.raises(InputError, match="not"):
        asyncio.run(start())
    assert wrong.read_text("utf-8") == "not a database"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[[alias]]\nname = "a"\nfallback = ["b"]', "no upstream 'b'"),
        ('[[alias]]\nname = "a"\ntier = "x"', r"no \[tier.x\]"),
        ('[[key]]\nname = "k"', "sha256 or env"),
        ('[[key]]\nname = "k"\nenv = "E"\naliases = ["a"]', "no alias 'a'"),
        ('[[key]]\nname = "k"\nsha256 = "abc"', "pattern"),
        ("[serve]\nin_flight = 0", "greater than or equal to 1"),
        ("[serve]\nworkers = 2", "no such key"),
    ],
)
def test_tables_of_the_gateway_are_checked(tmp_path: Path, table: str, said: Any) -> None:
    from poise.config import load

    path = tmp_path / "poise.toml"
    path.write_text(table, "utf-8")
    with pytest.raises(ConfigError, match=said):
        load(path)
