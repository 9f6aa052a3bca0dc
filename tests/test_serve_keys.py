"""Keys: who is let in, for what, and that nothing else is."""

from __future__ import annotations

import contextlib
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.config import Alias, Config, Key
from poise.errors import UsageError
from poise.serve.keys import Caller, Keyring, may_use
from poise.serve.refusals import Refusal


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


TEAM = Key(name="team", sha256=sha("sk-team"))
WATCH = Key(name="watch", sha256=sha("sk-watch"), scopes=("metrics",))
ONE = Key(name="one", sha256=sha("sk-one"), aliases=("small", "large"))
RING = Keyring.from_config(Config(key=(TEAM, WATCH, ONE)))


def refused(ring: Keyring, header: str | None, scope: str = "chat") -> Refusal:
    with pytest.raises(Refusal) as caught:
        ring.caller(header, scope)  # type: ignore[arg-type]
    return caught.value


def test_each_key_is_its_own_caller() -> None:
    assert RING.caller("Bearer sk-team", "chat") == Caller(TEAM, "team")
    assert RING.caller("Bearer sk-one", "outcomes") == Caller(ONE, "one")
    assert RING.caller("Bearer sk-watch", "metrics") == Caller(WATCH, "watch")


@pytest.mark.parametrize("header", ["bearer sk-team", "BEARER  sk-team ", " Bearer sk-team"])
def test_the_scheme_is_read_in_any_case_and_spaces_do_not_matter(header: str) -> None:
    assert RING.caller(header, "chat").name == "team"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "sk-team", "Basic sk-team", "Bearersk-team"]
)
def test_without_a_key_the_answer_is_401_and_says_how_to_send_one(header: str | None) -> None:
    refusal = refused(RING, header)
    assert (refusal.status, refusal.type) == (401, "authentication_error")
    assert "Authorization: Bearer" in refusal.message


@given(st.text().filter(lambda text: text.strip() not in {"sk-team", "sk-watch", "sk-one"}))
def test_no_other_text_is_a_key_and_none_is_repeated_in_the_refusal(text: str) -> None:
    refusal = refused(RING, f"Bearer {text}")
    assert refusal.status == 401
    assert len(text) < 4 or text not in refusal.message


def test_the_hash_itself_opens_nothing() -> None:
    assert refused(RING, f"Bearer {TEAM.sha256}").status == 401


def test_a_scope_that_the_key_lacks_is_403_and_named() -> None:
    refusal = refused(RING, "Bearer sk-team", "metrics")
    assert (refusal.status, refusal.type, refusal.code) == (403, "permission_error", "scope")
    assert "metrics" in refusal.message
    assert refused(RING, "Bearer sk-watch", "chat").status == 403


def test_every_key_is_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(a)
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for header in ("Bearer sk-team", "Bearer sk-watch", "Bearer sk-one", "Bearer sk-none"):
        compared.clear()
        with contextlib.suppress(Refusal):
            RING.caller(header, "outcomes")
        assert [a.hex() for a in compared] == [TEAM.sha256, WATCH.sha256, ONE.sha256]


def test_a_key_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-käse\n")
    ring = Keyring.from_config(Config(key=(Key(name="team", env="TEAM_KEY"),)))
    sent = "sk-käse".encode().decode("latin-1")  # as a server hands header bytes on
    assert ring.caller(f"Bearer {sent}", "chat").name == "team"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_KEY", raising=False)
    with pytest.raises(UsageError, match="TEAM_KEY"):
        Keyring.from_config(Config(key=(Key(name="team", env="TEAM_KEY"),)))


def test_the_hash_of_an_empty_key_is_refused() -> None:
    with pytest.raises(UsageError, match="'team'.*empty"):
        Keyring.from_config(Config(key=(Key(name="team", sha256=sha("")),)))


def test_two_names_of_one_key_are_refused() -> None:
    with pytest.raises(UsageError, match="'team' and 'again'"):
        Keyring.from_config(Config(key=(TEAM, Key(name="again", sha256=sha("sk-team")))))


@pytest.mark.parametrize("header", [None, "Bearer anything", "Basic x"])
def test_without_configured_keys_everybody_is_served(header: str | None) -> None:
    ring = Keyring.from_config(Config())
    assert ring.is_empty
    assert ring.caller(header, "metrics") == Caller(None, None)
    assert not RING.is_empty


def test_a_key_with_aliases_may_use_those_only() -> None:
    one = RING.caller("Bearer sk-one", "chat")
    assert may_use(one, "small") is None
    refusal = may_use(one, "huge")
    assert refusal is not None
    assert (refusal.status, refusal.type, refusal.param) == (403, "permission_error", "model")
    assert "small, large" in refusal.message


def test_a_key_without_aliases_and_a_caller_without_a_key_may_use_all() -> None:
    assert may_use(RING.caller("Bearer sk-team", "chat"), "huge") is None
    assert may_use(Caller(None, None), "huge") is None


def test_the_ring_shows_no_secret() -> None:
    ring = Keyring.from_config(Config(alias=(Alias(name="small"),), key=(ONE,)))
    assert "sk-one" not in repr(vars(ring))
