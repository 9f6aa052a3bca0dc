"""The verbs ask, run and sample as a user calls them, over stored pools and a real server."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import POISE, call, lines, program, write_lines, write_pool, write_questions
from fault_server import Behaviour, FaultServer
from poise.cli import VERBS
from poise.pools import read_pools
from poise.types import Kind, Prompt

FIVE = {f"q{i}": [str(i + 1)] * 3 + ["0"] + [str(i + 1)] * 4 for i in range(1, 6)}
"""Eight samples of each question, the fourth of them wrong."""


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "questions.jsonl", 5)


@pytest.fixture
def stored(tmp_path: Path) -> str:
    return f"stored:{write_pool(tmp_path / 'pool.jsonl', FIVE)}"


@pytest.fixture(scope="module")
def seven() -> Iterator[FaultServer]:
    """A server whose every reply is the same sentence."""
    with FaultServer(Behaviour(texts=("3 + 4 = 7",))) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    """The address of a server that is gone."""
    with FaultServer() as server:
        return server.base_url


def progress_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if " questions · " in line]


def answers(records: list[dict[str, object]]) -> dict[object, object]:
    return {record["question_id"]: record["answer"] for record in records}


# -- help, version, usage ------------------------------------------------------------------------

ARM = ("-m", "--model", "--base-url", "--api-key-env", "--kind", "--temperature", "--system")
EACH = ("--policy", "--profile", "--max-samples", "--max-tokens", "--max-seconds", "--max-usd")
FILES = ("-o", "--output", "--budget", "--concurrency", "--limit", "--resume", "--overwrite")
FLAGS = {
    "ask": (*ARM, *EACH, "--seed", "--json", "--config", "--option", "--reply-tokens"),
    "run": (*ARM, *EACH, *FILES, "--seed", "--quiet", "--config", "--table", "--skip-bad"),
    "fit": (
        *("-o", "--policy", "--max-samples", "--signals", "--others", "--note", "--plan"),
        *("--delta", "--seed", "--json", "--config"),
    ),
    "sample": (
        *(*ARM, *FILES, "-n", "--seed", "--quiet", "--config", "--top-logprobs", "--dataset"),
        *("--signals", "--edt"),
    ),
    "score": ("-o", "--output", "--profile", "--signals", "--skip-bad", "--overwrite", "--quiet"),
    "report": ("-o", "--output", "--profile", "--signals", "--seed", "--json", "--overwrite"),
    "replay": ("-o", "--policy", "-m", "--model", "--max-samples", "--seed", "--json"),
    "tune": ("-o", "--target", "--delta", "--policy", "--max-samples", "--profile", "--seed"),
    "serve": ("--config", "--host", "--port", "--workers", "--store", "--log-level"),
    "outcome": ("--store", "--source", "--json", "--config"),
    "train": ("sft", "prefs", "rl", "probe", "export"),
    "label": (
        *("-o", "-n", "--profile", "--signals", "--threshold", "--queue", "--labels"),
        *("--override", "--seed", "--json", "--overwrite", "--quiet"),
    ),
}


def test_the_root_lists_every_verb() -> None:
    done = call("--help")
    assert (done.code, done.err) == (0, "")
    assert VERBS.keys() == FLAGS.keys()
    assert all(f"\n  {verb} " in done.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_a_verb_spells_each_flag_as_the_design_does(verb: str, asked: str) -> None:
    done = call(verb, asked)
    assert (done.code, done.err) == (0, "")
    assert set(FLAGS[verb]) <= set(done.out.replace(",", " ").split())


def test_the_program_knows_its_version() -> None:
    done = program("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("poise 0.")


@pytest.mark.parametrize("words", [[], ["aks"], ["run"], ["run", "a", "--polisy", "beta"]])
def test_what_is_no_command_is_a_usage_error(words: list[str]) -> None:
    done = call(*words)
    assert (done.code, done.out) == (2, "")
    assert "Usage: " in done.err


# -- ask -----------------------------------------------------------------------------------------


def test_ask_answers_on_the_first_line_and_says_how_sure_it_is(seven: FaultServer) -> None:
    done = program("ask", "What is 3 + 4?", "--base-url", seven.base_url)
    answer, sure, votes, cost = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert answer == "7"
    assert sure.startswith("not calibrated: ")
    assert votes == "votes: 7 x4"
    assert cost.startswith("4 samples, stopped: sure;")


def test_ask_prints_the_result_as_json(seven: FaultServer) -> None:
    flags = ("--policy", "fixed:n=3", "--json")
    done = call("ask", "What is 3 + 4?", "--base-url", seven.base_url, *flags)
    (result,) = done.records
    assert (done.code, done.err) == (0, "")
    assert (result["answer"], result["kind"], result["stop"]) == ("7", "number", "fixed")
    assert (result["n_samples"], result["votes"]) == (3, {"7": 3})
    assert (result["probability"], result["calibrated"]) == (None, False)


def test_ask_reads_the_question_from_stdin(seven: FaultServer) -> None:
    flags = ("--base-url", seven.base_url, "--json", "--max-samples", "1")
    done = call("ask", "-", *flags, stdin="Wie viel ist 3 + 4? Ä\n".encode())
    assert done.records[0]["text"] == "3 + 4 = 7"
    assert seven.requests[-1].body["messages"][-1]["content"] == "Wie viel ist 3 + 4? Ä"


def test_ask_sends_a_system_message_options_temperature_and_length(seven: FaultServer) -> None:
    done = call(
        *("ask", "Which is a pet?", "--base-url", seven.base_url, "--system", "Be brief."),
        *("--option", "a cat", "--option", "7", "--temperature", "0.3", "--reply-tokens", "5"),
        *("--max-samples", "1", "--json"),
    )
    body = seven.requests[-1].body
    assert [message["content"] for message in body["messages"]] == [
        "Be brief.",
        "Which is a pet?\nA) a cat\nB) 7",
    ]
    assert (body["temperature"], body["max_tokens"]) == (0.3, 5)
    assert (done.records[0]["kind"], done.records[0]["answer"]) == ("choice", "B")


def test_open_chat_gets_one_sample_and_the_reply_whole(seven: FaultServer) -> None:
    done = call("ask", "Tell me a sum.", "--base-url", seven.base_url)
    reply, sure, cost = done.out.splitlines()
    assert reply == "3 + 4 = 7"
    assert sure.startswith("not calibrated: open chat")
    assert cost.startswith("1 sample, stopped: single;")


def test_ask_says_so_when_a_cap_left_no_room_for_a_single_sample(seven: FaultServer) -> None:
    done = call("ask", "What is 3 + 4?", "--base-url", seven.base_url, "--max-tokens", "9")
    assert done.code == 0
    assert done.out.startswith("(no answer)\nnot calibrated: no sample was drawn: a cap")


@pytest.mark.parametrize("decoding", [{"temperature": 1}, {"temperature": 1, "max_tokens": 4}])
def test_a_stored_pool_keeps_the_decoding_it_was_drawn_with(
    tmp_path: Path, decoding: dict[str, int]
) -> None:
    pool = write_pool(tmp_path / "pool.jsonl", {"1": ["a", "b"]}, decoding=decoding)
    done = call("ask", "Tell me a letter.", "-m", f"stored:{pool}", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.records[0]["decoding"] == decoding


def test_ask_tells_of_an_unreachable_server_in_one_line(nobody: str) -> None:
    done = program("ask", "What is 3 + 4?", "--base-url", nobody)
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith(f"poise: no sample arrived: {nobody}: cannot be reached")
    assert done.err.count("\n") == 1


def test_a_failure_is_a_result_too_for_who_wants_json(nobody: str) -> None:
    done = call("ask", "What is 3 + 4?", "--base-url", nobody, "--json")
    assert done.code == 5
    assert (done.records[0]["stop"], done.records[0]["answer"]) == ("error", None)


def test_half_a_character_from_a_model_does_not_lose_the_answer() -> None:
    choice = {"index": 0, "delta": {"content": "\ud83d is 7"}, "finish_reason": "stop"}
    event = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
    sent = Behaviour(body=event, headers={"Content-Type": "text/event-stream"})
    with FaultServer(sent) as server:
        done = call("ask", "Say it.", "--base-url", server.base_url, "--json")
    assert done.code == 0
    assert done.records[0]["text"] == "? is 7"


# -- run -----------------------------------------------------------------------------------------


def test_run_writes_one_result_a_line_and_progress_on_stderr_only(
    questions: Path, stored: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    done = program("run", questions, "-m", stored, "-o", output)
    assert (done.code, done.out) == (0, "")
    assert answers(lines(output)) == {f"q{i}": str(i + 1) for i in range(1, 6)}
    assert [line.split()[0] for line in progress_lines(done.err)] == ["5/5"]
    assert "\r" not in done.err
    assert not Path(f"{output}.journal").exists()


def test_run_writes_to_stdout_where_no_output_is_named(questions: Path, stored: str) -> None:
    done = call("run", questions, "-m", stored, "--quiet")
    assert len(done.records) == 5
    assert progress_lines(done.err) == []


def test_run_reads_questions_from_stdin(stored: str) -> None:
    asked = b'{"id": "q2", "question": "What is 2 + 1?"}\n\n{"id": "q1", "question": "What is 1+1"}'
    done = call("run", "-", "-m", stored, "--concurrency", "1", stdin=asked)
    assert answers(done.records) == {"q2": "3", "q1": "2"}
    assert progress_lines(done.err)[-1].startswith("2 questions"), "how many there are is not known"


def test_run_reads_a_pipe_once(stored: str, questions: Path, tmp_path: Path) -> None:
    """What a shell's <(…) gives can be read only once, so it is not checked beforehand."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["cp", questions, fifo])
    done = call("run", fifo, "-m", stored, "--quiet")
    writer.wait()
    assert len(done.records) == 5


@pytest.mark.parametrize(
    ("policy", "n", "stop"),
    [
        ("fixed:n=3", 3, "fixed"),
        ("fixed:n=1", 1, "single"),
        ("window:width=2", 2, "consensus"),
        ("beta:threshold=0.8", 2, "sure"),
        ("beta", 7, "sure"),
    ],
)
def test_run_follows_the_policy(
    questions: Path, stored: str, policy: str, n: int, stop: str
) -> None:
    done = call("run", questions, "-m", stored, "--policy", policy, "--quiet")
    assert {(record["n_samples"], record["stop"]) for record in done.records} == {(n, stop)}


def test_run_stops_at_its_caps(questions: Path, stored: str) -> None:
    done = call("run", questions, "-m", stored, "--max-samples", "2", "--quiet")
    assert {(record["n_samples"], record["stop"]) for record in done.records} == {(2, "budget")}


def test_run_takes_the_kind_it_is_given(questions: Path, stored: str) -> None:
    for flags, kind in (((), "number"), (("--kind", "text"), "text")):
        done = call("run", questions, "-m", stored, "--quiet", *flags)
        assert {record["kind"] for record in done.records} == {kind}


def test_run_stops_after_the_first_questions_of_a_limit(questions: Path, stored: str) -> None:
    done = call("run", questions, "-m", stored, "--limit", "2")
    assert answers(done.records).keys() == {"q1", "q2"}
    assert progress_lines(done.err)[-1].startswith("2/2")


def test_run_prints_a_table_for_people(questions: Path, stored: str, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = call("run", questions, "-m", stored, "-o", output, "--table", "--quiet")
    header, *rows = done.out.splitlines()
    assert header.split() == ["question", "answer", "probability", "samples", "stopped"]
    assert min(row.split()[:5] for row in rows[:5]) == ["What", "is", "1", "+", "1?"]
    assert "not calibrated (5): " in done.out
    assert rows[-1].startswith("5 questions, 5 answered; 35 samples, unknown tokens in")


def test_run_counts_bad_lines_when_told_to(tmp_path: Path, stored: str) -> None:
    asked = tmp_path / "questions.jsonl"
    asked.write_text('{"id": "q1", "question": "What is 1 + 1?"}\n{"id": "q2"}\nnonsense\n')
    done = call("run", asked, "-m", stored, "--skip-bad", "--quiet")
    assert answers(done.records) == {"q1": "2"}
    assert f"{asked}:2: " in done.err
    assert done.err.endswith("2 unusable lines were skipped\n")


def test_run_ends_early_at_a_budget_and_goes_on_with_a_larger_one(
    questions: Path, stored: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    flags = ("-m", stored, "-o", output, "--policy", "fixed:n=4", "--concurrency", "1")
    done = call("run", questions, *flags, "--budget", "10samples")
    drawn = [(record["n_samples"], record["stop"]) for record in lines(output)]
    assert done.code == 0
    assert drawn == [(4, "fixed"), (4, "fixed"), (2, "budget")]
    assert f"the budget is used up after {len(drawn)} questions; --resume goes on" in done.err
    done = call("run", questions, *flags, "--budget", "20samples", "--resume")
    assert done.code == 0
    assert [record["question_id"] for record in lines(output)] == list(FIVE)
    assert "used up" not in done.err
    assert not Path(f"{output}.journal").exists()


def test_a_budget_of_tokens_goes_on_only_where_the_tokens_spent_are_known(
    questions: Path, stored: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    # One at a time: of several at once, which gets the last of the budget is luck.
    flags = ("-o", output, "--policy", "fixed:n=2", "--reply-tokens", "5", "--concurrency", "1")
    call("run", questions, *flags, "-m", stored, "--budget", "400tokens")
    done = call("run", questions, *flags, "-m", stored, "--budget", "9e3tokens", "--resume")
    assert done.code == 2
    assert "do not say how many tokens" in done.err
    with FaultServer() as server:
        flags = (*flags, "--base-url", server.base_url)
        call("run", questions, *flags, "--budget", "190tokens", "--overwrite")
        part = lines(output)
        done = call("run", questions, *flags, "--budget", "9e3tokens", "--resume")
    assert 0 < len(part) < len(FIVE)
    assert done.code == 0
    assert [record["question_id"] for record in lines(output)] == list(FIVE)


def test_what_probing_a_server_took_is_part_of_the_spend(tmp_path: Path) -> None:
    with FaultServer() as server:
        done = call("ask", "What is 1 + 1?", "--base-url", server.base_url, "--json")
        sent = [seen for seen in server.requests if seen.body]
    assert done.records[0]["spend"]["calls"] == len(sent)


def test_a_budget_counts_what_an_earlier_part_of_the_run_spent(
    questions: Path, stored: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    flags = ("-m", stored, "-o", output, "--policy", "fixed:n=4", "--budget", "10samples")
    call("run", questions, *flags)
    before = output.read_bytes()
    done = call("run", questions, *flags, "--resume")
    assert "the budget is used up after 0 questions" in done.err
    assert output.read_bytes() == before


def test_run_tells_of_an_unreachable_server_and_writes_nothing(
    questions: Path, nobody: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    done = call("run", questions, "--base-url", nobody, "-o", tmp_path / "out.jsonl")
    assert done.code == 5
    assert done.err.startswith(f"poise: {nobody}: cannot be reached")
    assert done.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_run_gives_a_server_up_that_goes_away_and_keeps_what_there_is(
    questions: Path, tmp_path: Path
) -> None:
    """After four probes and two questions every call is refused for good."""
    output = tmp_path / "out.jsonl"
    gone = Behaviour(status=401)
    with FaultServer(lambda _, number: gone if number >= 6 else Behaviour()) as server:
        flags = ("--policy", "fixed:n=1", "--concurrency", "1", "-o", output)
        done = call("run", questions, "--base-url", server.base_url, *flags)
        assert len(server.requests) == 7, "the next question would meet the same refusal"
    assert done.code == 5
    assert len(lines(output)) == 2
    assert done.err.splitlines()[-1].startswith("poise: 1 questions failed (")
    assert done.err.endswith("; --resume goes on from here\n")


def test_a_reader_that_goes_away_ends_the_run_quietly(questions: Path, stored: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [POISE, "run", questions, "-m", stored, "--quiet"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_a_terminal_gets_one_live_line(questions: Path, stored: str) -> None:
    ours, theirs = os.openpty()
    command = [POISE, "run", questions, "-m", stored]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout.count(b"\n") == 5
    assert "\r1/5 questions" in shown
    assert "\r5/5 questions" in shown


def test_ctrl_c_leaves_whole_lines_and_a_journal(tmp_path: Path) -> None:
    """Four probes and eight questions are answered; what follows never would be."""
    asked = write_questions(tmp_path / "questions.jsonl", 20)
    output = tmp_path / "out.jsonl"
    stuck = Behaviour(latency=math.inf)
    with FaultServer(lambda _, number: stuck if number >= 12 else Behaviour()) as server:
        flags = ("--base-url", server.base_url, "--policy", "fixed:n=1", "-o", str(output))
        command = [POISE, "run", str(asked), *flags]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            assert server.until(lambda: len(server.requests) == 20)
            assert server.until(lambda: output.read_bytes().count(b"\n") == 8)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=20)
        assert running.returncode == 130
        assert server.until(lambda: server.in_flight == 0), "no call may go on by itself"
    assert len(lines(output)) == 8
    assert len(lines(Path(f"{output}.journal"))) >= 1 + 16
    assert said.splitlines()[-1] == f"poise: interrupted; --resume goes on with {output}"


# -- sample --------------------------------------------------------------------------------------


def test_sample_writes_a_graded_pool_with_log_probabilities(
    tmp_path: Path, seven: FaultServer
) -> None:
    asked = [
        {"id": "a", "question": "What is 3 + 4?", "gold": "7", "source": "book"},
        {"id": "b", "question": "What is 3 + 5?", "gold": 8},
        {"id": "c", "question": "What is 3 + 6?"},
    ]
    output = tmp_path / "pool.jsonl"
    questions = write_lines(tmp_path / "sums.questions.jsonl", asked)
    flags = ("-n", "3", "--top-logprobs", "2", "--concurrency", "1", "-o", output)
    done = call("sample", questions, "--base-url", seven.base_url, *flags)
    assert (done.code, done.out) == (0, "")
    a, b, c = read_pools(output)
    assert [part.correct for part in (a, b, c)] == [(1,) * 3, (0,) * 3, (None,) * 3]
    assert (a.gold, b.gold, c.gold) == ("7", "8", None)
    assert a.extra == {"source": "book"}
    assert (a.pool.dataset, a.pool.model, a.pool.kind) == ("sums", "faulty", Kind.NUMBER)
    assert a.pool.decoding == {"temperature": 0.8, "max_tokens": 512}
    assert a.pool.prompt_hash == Prompt().hash(Kind.NUMBER)
    assert [drawn.answer for drawn in a.pool.samples] == ["7"] * 3
    kept = a.pool.samples[0].logprobs
    assert kept is not None
    assert kept.tokens == ("3", " +", " 4", " =", " 7")
    assert kept.chosen[0] == pytest.approx(-math.log(2), abs=1e-3)
    assert kept.top is not None
    assert [len(row) for row in kept.top] == [2] * 5


def test_a_pool_that_was_sampled_can_be_run(tmp_path: Path, seven: FaultServer) -> None:
    output = tmp_path / "pool.jsonl"
    questions = write_questions(tmp_path / "questions.jsonl", 2)
    call("sample", questions, "--base-url", seven.base_url, "-n", "4", "-o", output)
    done = call("run", questions, "-m", f"stored:{output}", "--quiet")
    assert {(record["answer"], record["stop"]) for record in done.records} == {("7", "sure")}


def test_what_a_server_cannot_do_is_named_before_the_first_question(
    tmp_path: Path, seven: FaultServer
) -> None:
    questions = write_questions(tmp_path / "questions.jsonl", 1)
    with FaultServer(Behaviour(rejects=frozenset({"logprobs", "n"}))) as server:
        poor = call("sample", questions, "--base-url", server.base_url, "-n", "2", "--quiet")
    assert poor.code == 0
    assert "logprobs" not in poor.records[0]["samples"][0]
    assert poor.err.splitlines() == [
        "poise: the server: n > 1: rejected by the server",
        "poise: the server: logprobs: rejected by the server",
    ]
    same = call("sample", questions, "--base-url", seven.base_url, "-n", "2", "--quiet")
    assert same.err == "poise: the server: seed: different seeds give the same reply\n"


def test_sample_gives_open_chat_one_sample_and_says_so(tmp_path: Path, seven: FaultServer) -> None:
    asked = write_lines(tmp_path / "chat.jsonl", [{"question": "Tell me a sum."}])
    flags = ("--base-url", seven.base_url, "-n", "3", "--quiet")
    done = call("sample", asked, *flags)
    assert len(done.records[0]["samples"]) == 1
    assert "1 questions have one sample instead of 3 (open chat" in done.err
    done = call("sample", asked, *flags, "--kind", "number")
    assert len(done.records[0]["samples"]) == 3
    assert "instead of" not in done.err


def test_sample_keeps_no_half_pool_at_the_end_of_a_budget(
    tmp_path: Path, questions: Path, stored: str
) -> None:
    output = tmp_path / "out.jsonl"
    flags = ("-m", stored, "-n", "4", "-o", output, "--concurrency", "1", "--budget")
    done = call("sample", questions, *flags, "10samples")
    assert done.code == 0
    assert [len(record["samples"]) for record in lines(output)] == [4, 4]
    assert "the budget is used up after 2 questions; --resume goes on" in done.err
    done = call("sample", questions, *flags, "40samples", "--resume")
    assert [len(record["samples"]) for record in lines(output)] == [4] * 5


def test_sample_asked_for_more_than_a_pool_holds_says_which_question(
    tmp_path: Path, questions: Path, stored: str
) -> None:
    done = call("sample", questions, "-m", stored, "-n", "9", "-o", tmp_path / "out.jsonl")
    assert done.code == 5
    assert "5 questions failed (the pool holds only 8 samples of question" in done.err


@pytest.mark.parametrize(
    ("file", "name"), [("a.b.jsonl", "a"), (".hidden.jsonl", "hidden"), ("-", "stdin")]
)
def test_a_pool_is_named_for_its_question_file(
    tmp_path: Path, stored: str, file: str, name: str
) -> None:
    asked = b'{"id": "q1", "question": "What is 1 + 1?", "dataset": null}\n'
    path = file if file == "-" else tmp_path / file
    if isinstance(path, Path):
        path.write_bytes(asked)
    done = call("sample", path, "-m", stored, "-n", "2", "--quiet", stdin=asked)
    assert done.records[0]["dataset"] == name
    named = call("sample", path, "-m", stored, "-n", "2", "--dataset", "given", stdin=asked)
    assert named.records[0]["dataset"] == "given"


def test_the_same_seed_gives_the_same_pool(tmp_path: Path) -> None:
    questions = write_questions(tmp_path / "questions.jsonl", 3)
    with FaultServer() as server:
        drawn = [
            [
                [sample["answer"] for sample in record["samples"]]
                for record in call(
                    *("sample", questions, "--base-url", server.base_url, "-n", "5"),
                    *("--seed", seed, "--concurrency", "1"),
                ).records
            ]
            for seed in ("1", "1", "2")
        ]
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
