"""A run that is killed and resumed: no line lost, none doubled, none cut, and the loss is told."""

from __future__ import annotations

import math
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import POISE, call, lines, write_pool, write_questions
from fault_server import Behaviour, FaultServer
from poise.dispatch import derive_seed

QUESTIONS = 9
FIXED = ("--policy", "fixed:n=2", "--concurrency", "3", "--reply-tokens", "20")
IN_FLIGHT = re.compile(
    r"poise: (?P<questions>\d+) questions were in flight when the last run ended;"
    r" at most (?P<samples>\d+) samples and (?P<tokens>\d+) tokens of spend are lost"
)


class Gate:
    """Lets so many requests through and holds the rest; four probes of each run are free."""

    def __init__(self) -> None:
        self.open = 0
        self.seen = 0

    def __call__(self, body: object, _: int) -> Behaviour:
        assert isinstance(body, dict)
        if "random words" in str(body["messages"]):
            return Behaviour()
        self.seen += 1
        return Behaviour(latency=0.0 if self.seen <= self.open else math.inf)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def server(gate: Gate) -> Iterator[FaultServer]:
    with FaultServer(gate) as running:
        yield running


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "questions.jsonl", QUESTIONS)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def journal(output: Path) -> Path:
    return Path(f"{output}.journal")


def killed(
    words: list[str | Path], until: Callable[[], bool], server: FaultServer, by: signal.Signals
) -> str:
    """Start ``poise WORDS`` as a program, kill it once ``until`` holds; what it said on stderr."""
    command = [POISE, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert server.until(until, 20.0)
        running.send_signal(by)
        _, said = running.communicate(timeout=20)
    assert running.returncode == -by
    return said


def test_a_run_killed_at_several_points_ends_with_every_line_once(
    gate: Gate, server: FaultServer, asked: Path, output: Path
) -> None:
    """Killed before the first line, after three lines, and after seven; then left alone."""
    words: list[str | Path] = ["run", asked, "--base-url", server.base_url, "-o", output, *FIXED]
    said = []
    for written in (0, 3, 7):
        gate.open, gate.seen = written - (len(lines(output)) if output.exists() else 0), 0
        expected = written

        def stuck(expected: int = expected) -> bool:
            there = output.read_bytes().count(b"\n") if output.exists() else -1
            waiting = min(3, QUESTIONS - expected)
            return there == expected and server.in_flight == waiting

        resume = ["--resume"] if said else []
        said.append(killed([*words, *resume], stuck, server, signal.SIGKILL))
        assert len(lines(output)) == written
        assert journal(output).exists()
        assert server.until(lambda: server.in_flight == 0)
    gate.open = 10**9
    done = call(*words, "--resume")
    assert done.code == 0
    found = lines(output)
    assert sorted(record["question_id"] for record in found) == [f"q{i}" for i in range(1, 10)]
    assert {(record["n_samples"], record["stop"]) for record in found} == {(2, "fixed")}
    assert not journal(output).exists()

    lost = [IN_FLIGHT.search(text) for text in [*said, done.err]]
    assert lost[0] is None, "nothing was lost before the first run"
    # Three questions of two samples each were under way at each kill (two at the last), and what
    # was lost once stays lost.
    samples = [int(match["samples"]) for match in lost if match is not None]
    assert samples == [6, 12, 16]
    bound = 20 + 64 + 8 + len("user") + len("What is 1 + 1?")
    bound += len('{"temperature": 0.8, "max_tokens": 20}')
    tokens = [int(match["tokens"]) for match in lost if match is not None]
    assert tokens == [drawn * bound for drawn in samples]


def test_a_resumed_run_draws_what_an_unbroken_one_draws(
    gate: Gate, server: FaultServer, asked: Path, output: Path, tmp_path: Path
) -> None:
    words: list[str | Path] = ["run", asked, "--base-url", server.base_url, *FIXED, "-o"]
    gate.open = 4
    killed([*words, output], lambda: gate.seen == 7, server, signal.SIGTERM)
    gate.open = 10**9
    assert call(*words, output, "--resume").code == 0
    assert call(*words, tmp_path / "whole.jsonl").code == 0
    votes = [
        {record["question_id"]: record["votes"] for record in lines(path)}
        for path in (output, tmp_path / "whole.jsonl")
    ]
    assert votes[0] == votes[1]
    seeds = {request.body["seed"] for request in server.requests if "seed" in request.body}
    assert {derive_seed(0, f"q{i}", 0) for i in range(1, 10)} <= seeds


def test_a_half_line_is_cut_off_and_asked_again(
    gate: Gate, server: FaultServer, asked: Path, output: Path
) -> None:
    """A machine that loses power leaves half a line; so does a full disk."""
    words: list[str | Path] = ["run", asked, "--base-url", server.base_url, "-o", output, *FIXED]
    gate.open = 3
    killed(words, lambda: gate.seen == 6, server, signal.SIGKILL)
    first = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(first[:2]) + first[2][:-40])
    gate.open = 10**9
    assert call(*words, "--resume").code == 0
    assert sorted(record["question_id"] for record in lines(output)) == [
        f"q{i}" for i in range(1, 10)
    ]
    assert output.read_bytes().startswith(b"".join(first[:2]))


@pytest.fixture
def begun(tmp_path: Path, asked: Path, output: Path) -> list[str | Path]:
    """The words of a run over a stored pool that its budget ended after two questions."""
    pool = write_pool(tmp_path / "pool.jsonl", {f"q{i}": ["1"] * 4 for i in range(1, 10)})
    words: list[str | Path] = ["run", asked, "-m", f"stored:{pool}", "-o", output]
    words += ["--policy", "fixed:n=4", "--concurrency", "1"]
    assert call(*words, "--budget", "8samples").code == 0
    assert len(lines(output)) == 2
    assert journal(output).exists()
    return words


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("--seed", "1"), "seed"),
        (("--policy", "fixed:n=3"), "policy"),
        (("--policy", "beta"), "policy"),
        (("--reply-tokens", "9"), "decoding"),
        (("--max-samples", "3"), "limits, policy"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    begun: list[str | Path], output: Path, other: tuple[str, str], named: str
) -> None:
    before = output.read_bytes(), journal(output).read_bytes()
    done = call(*begun, *other, "--resume")
    assert done.code == 2
    assert done.err == (
        f"poise: {output} was started with other settings ({named}); give the same ones to"
        " --resume it, or --overwrite to replace it\n"
    )
    assert (output.read_bytes(), journal(output).read_bytes()) == before


def test_what_does_not_change_a_result_may_change_on_resuming(
    begun: list[str | Path], output: Path
) -> None:
    done = call(*begun, "--concurrency", "3", "--quiet", "--resume")
    assert done.code == 0
    assert len(lines(output)) == 9
    assert not journal(output).exists()


def test_a_pool_is_not_resumed_as_a_run(begun: list[str | Path], output: Path) -> None:
    words = ["sample", *begun[1:6], "-n", "4", "--resume"]
    done = call(*words)
    assert done.code == 2
    assert "other settings (" in done.err
    assert "verb" in done.err


def test_resuming_what_is_finished_does_nothing(begun: list[str | Path], output: Path) -> None:
    assert call(*begun, "--resume").code == 0
    before = output.read_bytes()
    done = call(*begun, "--resume")
    assert (done.code, done.out) == (0, "")
    assert "9/9 questions · 0 samples" in done.err
    assert "in flight" not in done.err
    assert output.read_bytes() == before
    assert not journal(output).exists()


def test_resuming_nothing_is_starting(tmp_path: Path, asked: Path, output: Path) -> None:
    pool = write_pool(tmp_path / "pool.jsonl", {f"q{i}": ["1"] * 4 for i in range(1, 10)})
    done = call("run", asked, "-m", f"stored:{pool}", "-o", output, "--resume")
    assert done.code == 0
    assert len(lines(output)) == 9


def test_overwriting_starts_again(begun: list[str | Path], output: Path) -> None:
    done = call(*begun, "--overwrite", "--limit", "1", "--seed", "7")
    assert done.code == 0
    assert [record["question_id"] for record in lines(output)] == ["q1"]
    assert not journal(output).exists()


def test_questions_that_failed_are_asked_again(asked: Path, output: Path) -> None:
    """One question is refused while the server is out of order, and answered the next time."""
    broken = True

    def script(body: object, _: int) -> Behaviour:
        return Behaviour(status=401 if broken and "What is 3" in str(body) else 200)

    with FaultServer(script) as server:
        words = ["run", asked, "--base-url", server.base_url, "-o", output, *FIXED[:2]]
        done = call(*words, "--concurrency", "1")
        assert done.code == 5
        assert len(lines(output)) == 2
        broken = False
        assert call(*words, "--resume").code == 0
    assert len({record["question_id"] for record in lines(output)}) == 9
    assert len(lines(output)) == 9
