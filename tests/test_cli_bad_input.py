"""Bad input: one sentence on stderr, the documented exit code, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import Done, call, write_lines, write_pool, write_questions
from fault_server import Behaviour, FaultServer

USAGE, INPUT, BACKEND = 2, 3, 5


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Addresses of servers, by what is wrong with them."""
    with FaultServer() as gone:
        stopped = gone.base_url
    with (
        FaultServer(models=("one", "two")) as several,
        FaultServer(models=None) as unlisted,
        FaultServer(api_key="secret") as locked,
        FaultServer(Behaviour(garbage=True)) as garbage,
        FaultServer(Behaviour(status=404, body="<html>\n<b>nothing\nhere</b>")) as lost,
    ):
        yield {
            "several": several.base_url,
            "unlisted": unlisted.base_url,
            "locked": locked.base_url,
            "garbage": garbage.base_url,
            "lost": lost.base_url,
            "gone": stopped,
        }


@pytest.fixture
def there(tmp_path: Path, servers: dict[str, str]) -> dict[str, str]:
    """Files to name in the table below, good and bad."""
    files = {
        "good": write_questions(tmp_path / "good.jsonl", 2, kind="number"),
        "pool": write_pool(tmp_path / "pool.jsonl", {"q1": ["2", "2"], "q2": ["3", "3"]}),
        "bare": write_pool(tmp_path / "bare.jsonl", {"q1": ["2"], "q2": ["3"]}, decoding=None),
        "folder": tmp_path / "folder",
        "old": write_lines(tmp_path / "old.jsonl", [{"question_id": "q1"}]),
        "log": write_lines(tmp_path / "log.jsonl", [{"time": 1}]),
    }
    files["folder"].mkdir()
    texts = {
        "empty": "",
        "cut": '{"id": "q1", "question": "What is 1 + 1?"}\n{"id": "q2", "quest',
        "list": '["What is 1 + 1?"]\n',
        "twice": '{"id": "q1", "question": "What?"}\n{"id": "q1", "question": "Who?"}\n',
        "blank": '{"id": "q1", "question": "  "}\n',
        "typed": '{"id": "q1", "question": 7}\n',
        "kinds": '{"id": "q1", "question": "What?", "kind": "numbr"}\n',
        "neither": '{"id": "q1", "gold": "7"}\n',
        "choice": '{"id": "q1", "question": "What?"}\n{"question": "Which?", "kind": "choice"}\n',
        "one": '{"id": "q1", "question": "Which?", "options": ["a"]}\n',
        "gold": '{"id": "q1", "question": "What?", "kind": "number", "gold": "many"}\n',
        "toml": "[[alias]]\nname = 3\n",
    }
    for name, text in texts.items():
        files[name] = tmp_path / f"{name}.txt"
        files[name].write_text(text)
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b'{"question": "\xff"}\n')
    named = {name: str(path) for name, path in files.items()}
    return {**named, **servers, "binary": str(binary), "dir": str(tmp_path)}


RUN = "run {good} -m stored:{pool} -o {dir}/out.jsonl"
FILE = "run {%s} -m stored:{pool} -o {dir}/out.jsonl"
ASK = "ask What? -m stored:{pool}"

TABLE: list[tuple[str, int, str]] = [
    # -- question files
    ("run {dir}/none.jsonl -m stored:{pool} -o {dir}/out.jsonl", INPUT, "none.jsonl: no such file"),
    (FILE % "folder", INPUT, "folder: is a directory"),
    (FILE % "empty", INPUT, "empty.txt: no questions"),
    (FILE % "cut", INPUT, "cut.txt:2: broken JSON"),
    (FILE % "list", INPUT, "list.txt:1: not a JSON object"),
    (FILE % "twice", INPUT, "twice.txt:2: the id 'q1' appeared before"),
    (FILE % "blank", INPUT, "blank.txt:1: question is empty"),
    (FILE % "typed", INPUT, "typed.txt:1: question is 7; it should be a string"),
    (FILE % "kinds", INPUT, "kinds.txt:1: kind is 'numbr'; it should be one of number, math"),
    (FILE % "neither", INPUT, "neither.txt:1: neither question nor messages"),
    (FILE % "choice", INPUT, "choice.txt:2: a choice needs its options"),
    (FILE % "one", INPUT, "one.txt:1: options is ['a']"),
    (FILE % "binary", INPUT, "binary.jsonl:1: not UTF-8"),
    ("sample {gold} -m stored:{pool} -o {dir}/out.jsonl", INPUT, "gold.txt:1: gold answer 'many'"),
    ("run {good} -m stored:{dir}/none.jsonl -o {dir}/out.jsonl", INPUT, "none.jsonl: no such file"),
    ("run {good} -m stored:{good} -o {dir}/out.jsonl", INPUT, "good.jsonl:1: "),
    # -- questions on the command line
    ("ask  -m stored:{pool}", INPUT, "the question is empty"),
    (ASK + " --kind choice", USAGE, "a choice needs 2 to 26 --option, not 0"),
    (ASK + " --option yes", USAGE, "a choice needs 2 to 26 --option, not 1"),
    (ASK + " --option x" * 27, USAGE, "a choice needs 2 to 26 --option, not 27"),
    # -- policies, kinds and numbers
    (RUN + " --policy gamma", USAGE, "there is no stop rule 'gamma'; choose from beta, cges"),
    (RUN + " --policy beta:alpha=1", USAGE, "'alpha=1' is not one of its parameters"),
    (RUN + " --policy beta:threshold=2", USAGE, "threshold=2"),
    (RUN + " --policy fixed:n=0", USAGE, "max_samples=0"),
    (RUN + " --policy window:width=9,n=3", USAGE, "width=9"),
    (RUN + " --kind numbr", USAGE, "--kind"),
    (RUN + " --max-samples 0", USAGE, "--max-samples"),
    (RUN + " --max-samples 1000000000", USAGE, "--max-samples"),
    (RUN + " --max-samples many", USAGE, "--max-samples"),
    (RUN + " --limit 0", USAGE, "--limit 0: must be at least 1"),
    (RUN + " --concurrency 0", USAGE, "--concurrency"),
    (RUN + " --concurrency 1000000000", USAGE, "--concurrency"),
    (RUN + " --temperature -1", USAGE, "--temperature"),
    (RUN + " --temperature nan", USAGE, "--temperature"),
    (RUN + " --temperature 0.5", USAGE, "drawn already; leave --temperature"),
    (RUN + " --system Hello", USAGE, "drawn already; leave --temperature and --system out"),
    (RUN + " --reply-tokens 0", USAGE, "--reply-tokens"),
    (RUN + " --seed one", USAGE, "--seed"),
    ("sample {good} -m stored:{pool} -n 0 -o {dir}/out.jsonl", USAGE, "-n"),
    ("sample {good} -m stored:{pool} -n 1000000000 -o {dir}/out.jsonl", USAGE, "-n"),
    ("sample {good} --base-url {gone} -n 2 --temperature 0", USAGE, "temperature 0 gives the same"),
    ("sample {good} -m stored:{pool} --top-logprobs 21", USAGE, "--top-logprobs"),
    # -- caps and budgets
    (RUN + " --max-tokens 0", USAGE, "max_tokens=0"),
    (RUN + " --max-seconds -3", USAGE, "max_seconds=-3"),
    (RUN + " --max-seconds nan", USAGE, "max_seconds=nan"),
    (RUN + " --max-usd 1", USAGE, "a cap in dollars needs a dated price"),
    (RUN + " --budget 1usd", USAGE, "a cap in dollars needs a dated price"),
    (RUN + " --budget plenty", USAGE, "--budget plenty: write a number"),
    (RUN + " --budget 5", USAGE, "--budget 5: write a number"),
    (RUN + " --budget samples", USAGE, "--budget samples: write a number"),
    (RUN + " --budget 0samples", USAGE, "--budget 0samples: write a number above 0"),
    (RUN + " --budget -3usd", USAGE, "--budget -3usd: write a number above 0"),
    (RUN + " --budget infsamples", USAGE, "--budget infsamples: write a number"),
    (RUN + " --budget nantokens", USAGE, "--budget nantokens: write a number"),
    (RUN + " --budget infusd", USAGE, "--budget infusd: write a number"),
    (
        "run {good} -m stored:{bare} -o {dir}/out.jsonl --budget 99tokens",
        USAGE,
        "needs to know the longest reply; give --reply-tokens",
    ),
    (
        "run {good} -m stored:{bare} -o {dir}/out.jsonl --max-tokens 99",
        USAGE,
        "needs to know the longest reply; give --reply-tokens",
    ),
    # -- outputs
    (RUN + " --resume --overwrite", USAGE, "give one"),
    ("run {good} -m stored:{pool} -o {old}", USAGE, "old.jsonl exists: --resume to continue it"),
    ("run {good} -m stored:{pool} -o {log} --resume", INPUT, "log.jsonl:1: no record of this run"),
    ("run {good} -m stored:{pool} -o {dir}/no/out.jsonl", USAGE, "there is no folder"),
    ("run {good} -m stored:{pool} -o {folder}", USAGE, "folder is a folder"),
    ("run {good} -m stored:{pool} -o {dir}/out.jsonl.gz", USAGE, "name it .jsonl"),
    ("run {good} -m stored:{pool} --resume", USAGE, "only a file can be resumed"),
    # -- servers, keys and models
    ("run {good} -m nobody -o {dir}/out.jsonl", USAGE, "a model on a server also needs --base-url"),
    ("run {good} -m {dir}/none.gguf -o {dir}/out.jsonl", BACKEND, "no such model file"),
    ("run {good} --base-url ftp://x/v1 -o {dir}/out.jsonl", USAGE, "ftp://x/v1"),
    ("run {good} --base-url http:// -o {dir}/out.jsonl", USAGE, "base URL"),
    ("run {good} --base-url http://x:99999/v1 -o {dir}/out.jsonl", USAGE, "65535"),
    ("run {good} --base-url nonsense -o {dir}/out.jsonl", USAGE, "nonsense"),
    ("run {good} --base-url {gone} -o {dir}/out.jsonl", BACKEND, "cannot be reached"),
    ("run {good} --base-url {garbage} -o {dir}/out.jsonl", BACKEND, "the connection broke"),
    ("run {good} --base-url {lost} -o {dir}/out.jsonl", BACKEND, "HTTP 404: <html> <b>nothing"),
    ("run {good} --base-url {locked} -o {dir}/out.jsonl", BACKEND, "--api-key-env"),
    ("run {good} --base-url {several} -o {dir}/out.jsonl", BACKEND, "the server offers one, two"),
    ("run {good} --base-url {unlisted} -o {dir}/out.jsonl", BACKEND, "name a model with -m"),
    (
        "run {good} --base-url {locked} --api-key-env POISE_NO_KEY -o {dir}/out.jsonl",
        USAGE,
        "POISE_NO_KEY is not set",
    ),
    (RUN + " --api-key-env PATH", USAGE, "names the key of the server at --base-url"),
    # -- configuration
    (RUN + " --config {dir}/none.toml", INPUT, "none.toml: cannot be read"),
    (RUN + " --config {toml}", INPUT, "toml.txt: alias.0.name: input should be a valid string"),
]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, and the folders."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def check(done: Done, code: int, said: str) -> None:
    """One line for a person; Typer's own usage errors put the usage before it."""
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert said in last, done.err
    assert done.code == code, done.err
    assert done.out == ""
    if last.startswith("Error: "):
        assert code == USAGE
        assert done.err.startswith("Usage: poise ")
        assert len(done.err.splitlines()) <= 4
    else:
        assert done.err == f"{last}\n"
        assert last.startswith("poise: ")


@pytest.mark.parametrize(("words", "code", "said"), TABLE, ids=[words for words, _, _ in TABLE])
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    there: dict[str, str], words: str, code: int, said: str
) -> None:
    folder = Path(there["dir"])
    before = contents(folder)
    done = call(*(word.format(**there) for word in words.split(" ")))
    check(done, code, said)
    assert contents(folder) == before


def test_a_question_that_is_no_text_is_refused(there: dict[str, str]) -> None:
    flags = ("-m", f"stored:{there['pool']}")
    check(call("ask", "-", *flags, stdin=b"\xff\xfe"), INPUT, "the question is not UTF-8 text")
    check(call("ask", "-", *flags, stdin=b" \n"), INPUT, "the question is empty")
    check(call("ask", "\udcff", *flags), INPUT, "the question is not UTF-8 text")


def test_a_bad_line_on_stdin_is_placed(there: dict[str, str]) -> None:
    """A stream cannot be checked beforehand: what comes before the bad line is answered."""
    asked = b'{"id": "q1", "question": "What is 1 + 1?"}\n{"id": "q2"}\n'
    done = call("run", "-", "-m", f"stored:{there['pool']}", "--quiet", stdin=asked)
    assert done.code == INPUT
    assert done.err.splitlines()[-1].startswith("poise: stdin:2: neither question nor messages")
    assert [record["question_id"] for record in done.records] == ["q1"]


def test_an_output_of_a_run_under_way_is_not_touched(there: dict[str, str], tmp_path: Path) -> None:
    import fcntl

    output = tmp_path / "out.jsonl"
    with Path(f"{output}.journal").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for flag in ("--overwrite", "--resume"):
            done = call("run", there["good"], "-m", f"stored:{there['pool']}", "-o", output, flag)
            check(done, USAGE, "another process is writing it")
    assert not output.exists()


def test_a_folder_without_permission_is_named(there: dict[str, str], tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    if os.access(shut, os.W_OK):  # the superuser writes everywhere: a file is in the way then
        shut = tmp_path / "good.jsonl"
    done = call("run", there["good"], "-m", f"stored:{there['pool']}", "-o", shut / "out.jsonl")
    check(done, USAGE, "cannot be written")


def test_a_key_is_never_shown(there: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POISE_WRONG_KEY", "sk-wrong-key")
    flags = ("--base-url", there["locked"], "--api-key-env", "POISE_WRONG_KEY")
    for words in (("ask", "What is 1 + 1?"), ("run", there["good"]), ("sample", there["good"])):
        done = call(*words, *flags)
        assert done.code == BACKEND
        assert "sk-wrong-key" not in done.out + done.err
