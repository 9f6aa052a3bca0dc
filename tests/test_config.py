"""``poise.toml``: what each table means, what is refused and how, and which of three words wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poise.backends.llamacpp import DECODING, PROMPT
from poise.cli.arms import ArmFlags, choose
from poise.config import Config, environment_key, load
from poise.errors import ConfigError, UsageError
from poise.policies import Beta, Fixed, Policy, Window
from poise.spend import Price, Usage
from poise.types import Kind, Prompt

WHOLE = """
[[upstream]]
name = "lab"
base_url = "http://localhost:8000/v1"
key_env = "LAB_KEY"
concurrency = 32
per_second = 20
timeout = 60.5

[[upstream]]
name = "other"
base_url = "https://api.example.org/v1"

[[alias]]
name = "small"
upstream = "lab"
model = "qwen2.5-7b"
policy = "fixed:n=5"
kind = "number"
system = "Answer with a number."
examples = [["What is 3 + 4?", "3 + 4 = 7"]]
[alias.decoding]
temperature = 0.3
max_tokens = 99

[[alias]]
name = "plain"
upstream = "other"

[prices."qwen2.5-7b"]
date = "2026-11-01"
prompt = 0.10
cached = 0.05
completion = 0.30

[embedded]
threads = 2
slots = 4
context = 512
"""


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    """Writes a configuration file and gives its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "poise.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_every_table_becomes_an_object(toml: Any) -> None:
    config = load(toml(WHOLE))
    lab = config.find_upstream("lab")
    assert (lab.base_url, lab.key_env) == ("http://localhost:8000/v1", "LAB_KEY")
    assert (lab.concurrency, lab.per_second, lab.timeout) == (32, 20.0, 60.5)
    small = config.find_alias("small")
    assert small is not None
    assert (small.upstream, small.model, small.policy) == ("lab", "qwen2.5-7b", "fixed:n=5")
    assert small.decoding == {"temperature": 0.3, "max_tokens": 99}
    assert small.prompt(Prompt()) == Prompt(
        "Answer with a number.", {Kind.NUMBER: (("What is 3 + 4?", "3 + 4 = 7"),)}
    )
    assert (config.embedded.threads, config.embedded.slots, config.embedded.context) == (2, 4, 512)


def test_prices_are_stated_for_a_million_tokens_and_used_for_one(toml: Any) -> None:
    price = load(toml(WHOLE)).price("qwen2.5-7b")
    assert price == Price("2026-11-01", 0.10 / 1e6, 0.30 / 1e6, 0.05 / 1e6)
    million = Usage(prompt_tokens=10**6, completion_tokens=10**6)
    assert price.usd(million) == pytest.approx(0.40)


def test_a_model_without_a_price_has_none(toml: Any) -> None:
    config = load(toml(WHOLE))
    assert config.price("another") is None
    assert config.price(None) is None


def test_no_file_and_an_empty_file_are_the_defaults(toml: Any) -> None:
    assert load(None) == load(toml("")) == Config()
    assert Config().find_alias("small") is None
    assert Config().find_alias(None) is None


def test_what_an_upstream_leaves_out_has_a_default(toml: Any) -> None:
    other = load(toml(WHOLE)).find_upstream("other")
    assert (other.key_env, other.concurrency, other.per_second) == (None, 16, None)
    assert other.timeout == 120.0


def test_an_alias_without_a_prompt_keeps_the_arms_own(toml: Any) -> None:
    plain = load(toml(WHOLE)).find_alias("plain")
    assert plain is not None
    assert plain.prompt(PROMPT) is PROMPT


def test_an_unknown_upstream_names_those_there_are(toml: Any) -> None:
    with pytest.raises(UsageError, match=r"'lob'.*lab, other"):
        load(toml(WHOLE)).find_upstream("lob")
    with pytest.raises(UsageError, match="none"):
        Config().find_upstream("lab")


UPSTREAM = '[[upstream]]\nname = "lab"\nbase_url = "http://x/v1"\n'
ALIAS = '[[alias]]\nname = "small"\n'
PRICE = '[prices.m]\ndate = "2026-11-01"\nprompt = 0.1\ncompletion = 0.3\n'

REFUSED = [
    ("[storage]\n", "storage: there is no such key"),
    ("threads = 1\n", "threads: there is no such key"),
    (UPSTREAM + "retries = 3\n", "upstream.0.retries: there is no such key"),
    (ALIAS + 'porfile = "p"\n', "alias.0.porfile: there is no such key"),
    (PRICE + "image = 0.1\n", "prices.m.image: there is no such key"),
    ("[embedded]\ngpu = 1\n", "embedded.gpu: there is no such key"),
    ('[[upstream]]\nbase_url = "http://x/v1"\n', "upstream.0.name: field required"),
    ('[[upstream]]\nname = "lab"\n', "upstream.0.base_url: field required"),
    ("[[alias]]\n", "alias.0.name: field required"),
    ('[prices.m]\ndate = "2026-11-01"\nprompt = 1\n', "prices.m.completion: field required"),
    (UPSTREAM.replace("http", "ftp"), "upstream.0.base_url"),
    (UPSTREAM + "concurrency = 0\n", "upstream.0.concurrency"),
    (UPSTREAM + 'concurrency = "16"\n', "upstream.0.concurrency: input should be a valid integer"),
    (UPSTREAM + "concurrency = true\n", "upstream.0.concurrency"),
    (UPSTREAM + "concurrency = 1.5\n", "upstream.0.concurrency"),
    (UPSTREAM + "per_second = -1\n", "upstream.0.per_second"),
    (UPSTREAM + "timeout = inf\n", "upstream.0.timeout: input should be a finite number"),
    (UPSTREAM + "key_env = 3\n", "upstream.0.key_env: input should be a valid string"),
    ("upstream = 3\n", "upstream: "),
    (ALIAS + 'kind = "numbr"\n', "alias.0.kind"),
    (ALIAS + "policy = 3\n", "alias.0.policy"),
    (ALIAS + 'kind = "number"\nexamples = [["What is 3 + 4?"]]\n', "alias.0.examples.0.1"),
    (ALIAS + 'decoding = "greedy"\n', "alias.0.decoding"),
    (ALIAS + 'examples = [["What is 3 + 4?", "7"]]\n', "alias 'small': examples need a kind"),
    (ALIAS + 'upstream = "lab"\n', "alias 'small': no upstream 'lab'"),
    (UPSTREAM + UPSTREAM, "two [[upstream]] tables are named 'lab'"),
    (ALIAS + ALIAS, "two [[alias]] tables are named 'small'"),
    (PRICE.replace("11-01", "13-01"), "prices.m.date"),
    (PRICE.replace("11-01", "02-30"), "prices.m.date"),
    (PRICE.replace("2026-11-01", "November"), "prices.m.date"),
    (PRICE.replace("0.1", "-0.1"), "prices.m.prompt: input should be greater than or equal to 0"),
    (PRICE.replace("0.3", "nan"), "prices.m.completion: input should be a finite number"),
    (PRICE.replace("0.3", '"0.3"'), "prices.m.completion"),
    ("[embedded]\nslots = 0\n", "embedded.slots"),
    ("[embedded]\ncontext = 1\n", "embedded.context"),
    ("[embedded]\nthreads = 0\n", "embedded.threads"),
    ("[embedded\n", "not TOML: "),
    ("slots = 1\nslots = 2\n", "not TOML: "),
    (b"\xff\xfe", "cannot be read ("),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_mistake_is_one_line_with_the_file_and_the_key(
    toml: Any, text: str | bytes, said: str
) -> None:
    path = toml(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {said}")
    assert len(message.splitlines()) == 1


def test_further_mistakes_are_counted(toml: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(and 2 more\)$"):
        load(toml("a = 1\nb = 2\nc = 3\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: cannot be read (")


def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", " s3cret\n")
    assert environment_key("LAB_KEY") == "s3cret"
    assert environment_key(None) is None


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_named_and_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("LAB_KEY", raising=False)
    else:
        monkeypatch.setenv("LAB_KEY", value)
    with pytest.raises(UsageError, match="LAB_KEY is not set"):
        environment_key("LAB_KEY")


# -- a flag wins over the alias, the alias over the default ------------------------------------


@pytest.fixture
def config(toml: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_KEY", "s3cret")
    path: Path = toml(WHOLE)
    return path


def test_an_alias_states_policy_kind_decoding_and_prompt(config: Path) -> None:
    chosen = choose(ArmFlags("small", config=config))
    assert chosen.policy == Policy(Fixed(5))
    assert chosen.kind is Kind.NUMBER
    assert chosen.arm.decoding == {"temperature": 0.3, "max_tokens": 99}
    assert chosen.arm.prompt.system == "Answer with a number."
    assert (chosen.arm.backend.model, chosen.arm.price) == (
        "qwen2.5-7b",
        Price("2026-11-01", 0.10 / 1e6, 0.30 / 1e6, 0.05 / 1e6),
    )
    assert chosen.length_stated


def test_a_flag_wins_over_its_alias(config: Path) -> None:
    flags = ArmFlags(
        "small",
        policy="window:width=3",
        kind=Kind.TEXT,
        temperature=1.0,
        system="Be brief.",
        reply_tokens=7,
        config=config,
    )
    chosen = choose(flags)
    assert chosen.policy == Policy(Window(3))
    assert chosen.kind is Kind.TEXT
    assert chosen.arm.decoding == {"temperature": 1.0, "max_tokens": 7}
    assert chosen.arm.prompt.system == "Be brief."
    assert Kind.NUMBER in chosen.arm.prompt.examples, "a system message leaves the examples alone"


def test_where_neither_says_anything_the_default_holds(config: Path) -> None:
    chosen = choose(ArmFlags("plain", config=config))
    assert chosen.policy == Policy(Beta())
    assert chosen.kind is None
    assert chosen.arm.decoding == {"temperature": 0.8, "max_tokens": 512}
    assert chosen.arm.prompt == Prompt()
    assert chosen.arm.price is None
    assert not chosen.length_stated


def test_a_cap_on_samples_lowers_an_aliass_policy(config: Path) -> None:
    assert choose(ArmFlags("small", max_samples=3, config=config)).policy == Policy(Fixed(3))
    assert choose(ArmFlags("small", max_samples=30, config=config)).policy == Policy(Fixed(5))


def test_a_server_on_the_command_line_needs_no_configuration() -> None:
    chosen = choose(ArmFlags("m", base_url="http://localhost:1/v1", temperature=0.1))
    assert chosen.arm.backend.model == "m"
    assert chosen.arm.decoding == {"temperature": 0.1, "max_tokens": 512}


def test_an_alias_without_upstream_is_the_embedded_model(toml: Any, tmp_path: Path) -> None:
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"GGUF")
    path = toml(f'[[alias]]\nname = "tiny"\nmodel = "{weights}"\n[embedded]\nslots = 3\n')
    arm = choose(ArmFlags("tiny", config=path)).arm
    assert (arm.backend.engine, arm.backend.model) == ("llama.cpp", "tiny")
    assert getattr(arm.backend, "slots", None) == 3
    # A model of the user's own: llama.cpp's decoding, longer replies, and no worked examples.
    assert arm.decoding == {**DECODING, "max_tokens": 512}
    assert arm.prompt == Prompt()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"model": "small", "base_url": "http://x/v1"}, "two servers"),
        ({"model": "smal"}, "neither an alias"),
        ({"model": "small", "policy": "gamma"}, "no stop rule 'gamma'"),
        ({"model": "small", "reply_tokens": 0}, "--reply-tokens"),
        ({"model": "small", "temperature": float("nan")}, "--temperature"),
        ({"model": "small", "api_key_env": "LAB_KEY"}, "--api-key-env"),
        ({"base_url": "http://x/v1", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    config: Path, flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        choose(ArmFlags(**flags, config=config))


def test_an_aliass_decoding_is_checked_like_a_flag(toml: Any) -> None:
    upstream = UPSTREAM + ALIAS + 'upstream = "lab"\n[alias.decoding]\n'
    for stated, said in (("temperature = nan", "sent as json"), ("max_tokens = 0", "max_tokens")):
        with pytest.raises((UsageError, ConfigError), match=said):
            choose(ArmFlags("small", config=toml(upstream + stated)))
