"""What to label next, as a sheet and back: honest weights, lossless sheets, labels that hold."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import random
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise.errors import InputError, UsageError
from poise.labelling import (
    COLUMNS,
    Candidate,
    Label,
    LabelCount,
    Labels,
    Pick,
    apply,
    choose,
    coverage,
    read_csv,
    review_queue,
    write_csv,
)
from poise.labelling.choosing import allocate
from poise.pools import Labelled, Pool, SampleArm, pool_from_record, pool_record
from poise.types import Kind, Sample


def one(number: int | str, p: float | None = 0.7, **stated: object) -> Candidate:
    given = {"question": f"What is {number}?", "answer": "1", "calibrated": p is not None}
    return Candidate(
        "d",
        str(number),
        "m",
        probability=p,
        **{**given, **stated},  # type: ignore[arg-type]
    )


def crowd(size: int, seed: int) -> list[Candidate]:
    """Answers of four segments, three with labels, abstained on below .4."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(size):
        p = round(float(rng.beta(2, 1.2)), 3)
        labelled = bool(rng.random() < 0.1) and number % 4 != 3
        made.append(
            one(
                number,
                p,
                segment="abcd"[number % 4],
                decision="answer" if p >= 0.4 else "abstain",
                labelled=labelled,
                correct=int(rng.random() < p) if labelled else None,
            )
        )
    return made


def weights(picks: Sequence[Pick]) -> list[float]:
    found = [pick.weight for pick in picks if pick.weight is not None]
    assert len(found) == len(picks)
    return found


# -- choosing -----------------------------------------------------------------------------------


@given(st.integers(1, 90), st.integers(0, 5), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_picks_are_different_unlabelled_answers_whose_weights_add_up_to_all_of_them(
    size: int, seed: int, n: int
) -> None:
    candidates = crowd(size, seed)
    unlabelled = [candidate for candidate in candidates if not candidate.labelled]
    picks = choose(candidates, n, seed=seed)
    assert len(picks) == min(n, len(unlabelled)) == len({pick.candidate.key for pick in picks})
    assert {pick.candidate for pick in picks} <= set(unlabelled)
    if picks:
        assert math.fsum(weights(picks)) == pytest.approx(len(unlabelled))
    assert all(weight >= 1 for weight in weights(picks))
    edges = [pick for pick in picks if pick.why == "edge"]
    assert list(picks[: len(edges)]) == edges
    assert len(edges) <= n // 2
    assert all((pick.weight == 1) >= (pick.why == "edge") for pick in picks)
    assert all((pick.cause is not None) == (pick.why == "edge") for pick in picks)
    if n >= len(unlabelled):
        assert set(weights(picks)) <= {1.0}


def test_the_order_of_candidates_does_not_matter_and_the_seed_does() -> None:
    candidates = crowd(300, 1)
    picks = choose(candidates, 60, seed=4)
    assert choose(random.Random(2).sample(candidates, 300), 60, seed=4) == picks
    other = choose(candidates, 60, seed=5)
    edges = sum(pick.why == "edge" for pick in picks)
    assert other[:edges] == picks[:edges]
    assert other[edges:] != picks[edges:]


def test_weighted_accuracy_is_unbiased_over_seeds_and_plain_accuracy_is_not() -> None:
    candidates = [c for c in crowd(600, 2) if not c.labelled]
    rng = np.random.default_rng(3)
    # The truth is not what the probabilities say, and differs by segment.
    truth = {
        c.key: float(rng.random() < (c.probability or 0) ** 1.5 - 0.1 * (c.segment == "b"))
        for c in candidates
    }
    accuracy = sum(truth.values()) / len(truth)
    weighted, plain = [], []
    for seed in range(150):
        picks = choose(candidates, 80, seed=seed)
        right = [truth[pick.candidate.key] for pick in picks]
        weighted.append(np.average(right, weights=weights(picks)))
        plain.append(np.mean(right))
    error = np.std(weighted) / math.sqrt(len(weighted))
    assert 0 < error < 0.006
    assert abs(np.mean(weighted) - accuracy) < 4 * error
    # The negative control: edges lie where the model is wrong.
    assert abs(np.mean(plain) - accuracy) > 20 * np.std(plain) / math.sqrt(len(plain))


def test_every_unlabelled_answer_has_the_chance_that_its_weight_states() -> None:
    candidates = [one(i, 0.9 if i % 3 else 0.5, segment="ab"[i % 2]) for i in range(36)]
    draws = 1500
    picked = dict.fromkeys((c.key for c in candidates), 0)
    chance: dict[object, float] = {}
    for seed in range(draws):
        for pick in choose(candidates, 12, seed=seed):
            picked[pick.candidate.key] += 1
            chance[pick.candidate.key] = 1 / (pick.weight or 0)
    assert chance.keys() == picked.keys()
    for key, times in picked.items():
        error = math.sqrt(chance[key] * (1 - chance[key]) / draws)
        assert abs(times / draws - chance[key]) <= 4.5 * error


def test_every_stratum_is_covered_and_the_undecided_get_the_most() -> None:
    candidates = [one(f"s{i}", 0.99, segment="a") for i in range(200)]
    candidates += [one(f"u{i}", 0.5, segment="a") for i in range(200)]
    candidates += [one(f"r{i}", 0.7, segment="rare") for i in range(2)]
    candidates += [one(f"n{i}", None, segment="a") for i in range(3)]
    picks = [pick for pick in choose(candidates, 60) if pick.why == "stratum"]
    got = {name: sum(p.candidate.question_id[0] == name for p in picks) for name in "surn"}
    assert min(got.values()) >= 1
    assert 2 < got["u"] / got["s"] < 2.6  # sqrt(.25) / sqrt(.05 x .95)


def test_raw_signals_promise_no_rate_and_get_shares_by_size() -> None:
    candidates = [one(f"s{i}", 0.99, calibrated=False) for i in range(100)]
    candidates += [one(f"u{i}", 0.5, calibrated=False) for i in range(100)]
    picks = [pick for pick in choose(candidates, 40) if pick.why == "stratum"]
    got = sum(pick.candidate.question_id[0] == "s" for pick in picks)
    assert abs(2 * got - len(picks)) <= 1


def test_more_strata_than_picks_are_merged_and_the_weights_stay_honest() -> None:
    candidates = [one(i, (i % 10) / 10, segment=f"s{i // 10}") for i in range(300)]
    for n in (1, 2, 7, 50):
        picks = choose(candidates, n)
        assert len(picks) == n
        assert math.fsum(weights(picks)) == pytest.approx(300)
        assert all(pick.weight > 1 for pick in picks if pick.why == "stratum")  # type: ignore[operator]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.1, 0.3, 0.5])), min_size=1, max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_no_other_allocation_in_whole_numbers_has_less_variance(
    strata: list[tuple[int, float]],
) -> None:
    sizes, spreads = [size for size, _ in strata], [spread for _, spread in strata]

    def variance(counts: Sequence[int]) -> float:
        rows = zip(sizes, spreads, counts, strict=True)
        return sum((size * spread) ** 2 / count for size, spread, count in rows)

    for n in range(len(sizes), sum(sizes) + 1):
        counts = allocate(sizes, spreads, n)
        assert sum(counts) == n
        assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
        others = itertools.product(*(range(1, size + 1) for size in sizes))
        best = min(variance(other) for other in others if sum(other) == n)
        assert variance(counts) == pytest.approx(best)


# -- edges --------------------------------------------------------------------------------------


def test_a_segment_without_labels_comes_first() -> None:
    candidates = [one(i, 0.8, segment="old", labelled=i < 5) for i in range(40)]
    candidates += [one(f"n{i}", 0.8 + i / 100, segment="new") for i in range(4)]
    first, *others = choose(candidates, 4)
    assert (first.candidate.question_id, first.cause) == ("n0", "a segment without labels")
    assert all(pick.why == "stratum" for pick in others)


def test_where_labels_contradict_calibrated_probabilities_more_are_asked_for() -> None:
    def candidates(right: int, *, calibrated: bool = True) -> list[Candidate]:
        labelled = [
            one(f"l{i}", 0.9, labelled=True, correct=int(i < right), calibrated=calibrated)
            for i in range(10)
        ]
        fine = [one(f"f{i}", 0.5, labelled=True, correct=i % 2) for i in range(10)]
        return labelled + fine + [one(i, 0.85 if i % 2 else 0.45) for i in range(60)]

    (edge,) = (pick for pick in choose(candidates(5), 10) if pick.why == "edge")
    assert edge.candidate.probability == 0.85
    assert edge.cause == "labels disagree with the probabilities here"
    for quiet in (candidates(9), candidates(8), candidates(5, calibrated=False)):
        assert all(pick.why == "stratum" for pick in choose(quiet, 10))


def test_one_wrong_answer_at_nine_in_ten_is_no_surprise() -> None:
    candidates = [one("l", 0.9, labelled=True, correct=0), *(one(i, 0.85) for i in range(20))]
    assert all(pick.why == "stratum" for pick in choose(candidates, 10))


def test_edges_lie_near_the_threshold_that_the_decisions_show_nearest_first() -> None:
    candidates = [
        one(i, i / 200, decision="answer" if i >= 120 else "abstain", labelled=i == 0)
        for i in range(200)
    ]
    edges = [pick.candidate.probability for pick in choose(candidates, 20) if pick.why == "edge"]
    away = [abs((p or 0) - 0.5975) for p in edges]
    assert len(edges) == 10
    assert away == pytest.approx(sorted(away))
    assert away[-1] < 0.03
    moved = choose(candidates, 20, threshold=0.9)
    assert moved[0].candidate.probability == pytest.approx(0.9)


def test_what_is_far_from_the_threshold_and_answered_is_no_edge() -> None:
    candidates = [one("out", 0.3, decision="abstain", labelled=True)]
    candidates += [one(i, 0.5 + i / 100) for i in range(50)]
    picks = choose(candidates, 40, threshold=0.5)
    edges = [pick.candidate.probability for pick in picks if pick.why == "edge"]
    assert edges == [0.5 + i / 100 for i in range(11)]


def test_random_picks_come_in_random_order_so_that_the_first_half_is_random_too() -> None:
    candidates = [one(i, i / 400) for i in range(400)]
    picks = [pick.candidate.probability or 0 for pick in choose(candidates, 100, seed=1)]
    assert abs(np.mean(picks[:50]) - np.mean(picks[50:])) < 0.15
    assert picks != sorted(picks)


def test_a_stray_decision_does_not_move_the_threshold() -> None:
    decided = [(i / 100, i >= 50) for i in range(100)] + [(0.03, True), (0.97, False)]
    candidates = [
        one(i, p, decision="answer" if answered else "abstain", labelled=i == 0)
        for i, (p, answered) in enumerate(decided)
    ]
    first = choose(candidates, 2)[0]
    assert abs((first.candidate.probability or 0) - 0.495) < 0.01


def test_without_abstentions_or_news_there_are_no_edges() -> None:
    candidates = [one(i, i / 50, labelled=i == 0) for i in range(50)]
    assert all(pick.why == "stratum" for pick in choose(candidates, 20))


def test_equal_probabilities_on_both_sides_are_their_own_threshold() -> None:
    candidates = [
        one(i, 0.5, decision="answer" if i % 2 else "abstain", labelled=i == 0) for i in range(30)
    ]
    assert [pick.why for pick in choose(candidates, 10)] == ["edge"] * 5 + ["stratum"] * 5


@pytest.mark.parametrize(("n", "threshold"), [(0, None), (-1, None), (5, 1.5), (5, math.nan)])
def test_picks_need_a_number_and_a_threshold_within_range(n: int, threshold: float | None) -> None:
    with pytest.raises(UsageError, match="must be"):
        choose([one(1)], n, threshold=threshold)


def test_nothing_to_label_gives_no_picks() -> None:
    assert choose([], 5) == ()
    assert choose([one(1, labelled=True)], 5) == ()
    assert review_queue([]) == ()
    assert coverage([]) == ()


# -- twins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("What is 3 + 4?", "  what IS\t3 + 4? \n"),
        ("Straße?", "STRASSE?"),
        ("caf\u00e9?", "cafe\u0301?"),
        ("\uff37hat?", "What?"),
        ("fi\ufb01?", "fifi?"),
    ],
)
def test_questions_that_differ_in_looks_only_are_asked_once(first: str, second: str) -> None:
    candidates = [one(1, 0.9, question=first), one(2, 0.6, question=second)]
    (pick,) = choose(candidates, 5)
    assert pick.candidate.question_id == "2"
    assert pick.duplicates == (candidates[0].key,)
    assert pick.weight == 1


@pytest.mark.parametrize(
    "second",
    [
        {"question": "What is 32?"},
        {"question": "What is 3²?", "answer": "2"},
        {"question": "What is 3²?", "answer": None},
        {"question": None},
        {"question": "What is 3₂?"},
    ],
)
def test_other_questions_and_other_answers_are_asked_apart(second: dict[str, str]) -> None:
    first = one(1, question="What is 3²?")
    assert len(choose([first, one(2, **second)], 5)) == 2


def test_questions_without_a_text_are_one_by_dataset_and_id() -> None:
    same = [one(1, question=None), replace(one(1, question=None), model="n", run="2")]
    other = replace(same[0], dataset="e")
    assert sorted(len(pick.duplicates) for pick in choose([*same, other], 5)) == [0, 1]


def test_weights_count_tasks_and_duplicates_share_the_chance_of_their_twin() -> None:
    """Weighting every pool that a label serves by its pick estimates accuracy over pools."""
    candidates = []
    for i in range(120):
        candidates += [
            replace(one(i, 0.4 + i / 240), run=str(run)) for run in range(1 + 3 * (i % 4 == 0))
        ]
    truth = {c.key: float(int(c.question_id) % 4 == 0) for c in candidates}
    accuracy = sum(truth.values()) / len(truth)
    found = []
    for seed in range(300):
        picks = choose(candidates, 30, seed=seed)
        totals = [
            (pick.weight or 0) * truth[key]
            for pick in picks
            for key in (pick.candidate.key, *pick.duplicates)
        ]
        found.append(sum(totals) / len(candidates))
    error = np.std(found) / math.sqrt(len(found))
    assert 0 < error < 0.01
    assert abs(np.mean(found) - accuracy) < 4 * error


def test_the_review_queue_is_every_task_abstained_first_then_the_least_sure() -> None:
    candidates = [
        one("sure", 0.9),
        one("out", 0.5, decision="abstain", reason="too unsure"),
        one("unsure", 0.2),
        one("lost", None, answer=None, decision="abstain"),
        one("done", 0.1, labelled=True),
        one("raw", None),
        one("twin", 0.95, question="What is out?"),
    ]
    queue = review_queue(random.Random(1).sample(candidates, len(candidates)))
    ids = [pick.candidate.question_id for pick in queue]
    assert ids == ["lost", "out", "raw", "unsure", "sure"]
    assert {(pick.why, pick.weight) for pick in queue} == {("review", None)}
    assert queue[1].duplicates == (candidates[-1].key,)


# -- candidates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stated",
    [
        {"p": 1.01},
        {"p": math.nan},
        {"decision": "skip"},
        {"p": None, "calibrated": True},
        {"correct": 1},
        {"correct": 2, "labelled": True},
    ],
)
def test_a_candidate_that_contradicts_itself_is_refused(stated: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="question '1'"):
        one(1, **stated)  # type: ignore[arg-type]


def samples(*answers: str | None) -> tuple[Sample, ...]:
    return tuple(
        Sample(i, None, answer, None if answer else "unreadable")
        for i, answer in enumerate(answers)
    )


def pool(question_id: str = "q", *answers: str | None, **stated: object) -> Pool:
    given = {
        "kind": Kind.NUMBER,
        "decoding": {"top_p": 1.0, "temperature": 0.8},
        "messages": ({"role": "user", "content": f"What is {question_id}?"},),
    }
    drawn = samples(*(answers or ("12", "13", "12", None)))
    return Pool("d", "m", question_id, drawn, **{**given, **stated})  # type: ignore[arg-type]


def graded(made: Pool, *correct: int | None, gold: str | None = None) -> Labelled:
    return Labelled(made, gold, correct or (None,) * len(made.samples))


def test_the_candidate_of_a_pool_has_its_key_and_knows_its_label() -> None:
    made = pool("q", run="r", segment="s")
    fresh = Candidate.of(graded(made), "12", probability=0.6, calibrated=True)
    assert fresh.key == made.key
    assert (fresh.question, fresh.segment, fresh.labelled) == ("What is q?", "s", False)
    done = Candidate.of(graded(made, None, 0, 1, None), "12", decision="abstain", reason="why")
    assert (done.labelled, done.correct, done.abstained, done.reason) == (True, 1, True, "why")
    assert not Candidate.of(graded(made, None, 0, None, None), "12").labelled
    gold = Candidate.of(graded(made, gold="12"), None)
    assert (gold.labelled, gold.correct) == (True, None)


def test_options_and_earlier_turns_keep_questions_apart() -> None:
    asked = {"role": "user", "content": "Which is true?"}
    plain = pool("1", "A", kind=Kind.CHOICE, messages=(asked,), options=("x", "y"))
    other = replace(plain, question_id="2", options=("y", "x"))
    turned = replace(plain, question_id="3", messages=({"role": "system", "content": "s"}, asked))
    parts = replace(plain, question_id="4", messages=({**asked, "content": [{"type": "text"}]},))
    made = [Candidate.of(graded(each), "A") for each in (plain, other, turned, parts)]
    assert len(choose(made, 9)) == 4
    assert made[0].question == "Which is true?\nA) x\nB) y"
    same = Candidate.of(graded(replace(plain, question_id="5")), "A")
    assert len(choose([made[0], same], 9)) == 1


# -- coverage -----------------------------------------------------------------------------------


def test_coverage_is_counted_by_segment_worst_first_and_overall_last() -> None:
    candidates = [one(i, i / 10, segment="half", labelled=i < 5, correct=None) for i in range(10)]
    candidates += [one(f"n{i}", p, segment="none") for i, p in enumerate((0.8, 0.95, 1.0))]
    candidates += [one(f"m{i}", 0.5, segment="more") for i in range(4)]
    candidates += [one(f"a{i}", None, labelled=True, correct=int(i > 0)) for i in range(3)]
    rows = coverage(random.Random(3).sample(candidates, len(candidates)))
    assert [row.segment for row in rows] == ["more", "none", "half", None, None]
    half, everything, overall = rows[2:]
    assert rows[1].bands == 1
    assert (half.total, half.labelled, half.graded, half.right) == (10, 5, 0, 0)
    assert (half.bands, half.bands_covered, half.share) == (5, 3, 0.5)
    assert (everything.graded, everything.right, everything.bands) == (3, 2, 1)
    assert (overall.overall, everything.overall) == (True, False)
    assert (overall.total, overall.labelled, overall.bands) == (20, 8, 6)
    assert overall.total == sum(row.total for row in rows[:-1])
    assert json.loads(json.dumps(overall.to_dict()))["right"] == 2


# -- the sheet ----------------------------------------------------------------------------------

awkward = (
    *("=1+1", "+5", "-5", "@x", "\tx", "'=1", "''-2", "'tis", "'", "007", "1/2", "0.50", "1e5"),
    *("'007", "TRUE", "False", "3-4", "12345678901234567890", "a;b", 'say "x"', "a\r\nb"),
    *("a\nb", "\ufeff", "½", "＝x", " x ", "5", "0", "-", ",", "\u2028", "😀", ".5", "'5"),
)
nasty = st.one_of(
    st.sampled_from(awkward),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.text(string.punctuation + "0 \n\r\t", min_size=1, max_size=6),
)


def sheet(
    folder: Path, picks: Sequence[Pick], fill: dict[str, str], *, delimiter: str = ","
) -> Path:
    """The picks' sheet after a person has filled every row with ``fill``."""
    stream = io.StringIO(newline="")
    write_csv(picks, stream)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    path = folder / "filled.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**row, **fill} for row in rows)
    return path


@given(
    st.lists(st.tuples(nasty, nasty, nasty, nasty), min_size=1, max_size=4, unique=True),
    nasty,
    st.sampled_from(",;\t"),
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_a_sheet_holds_comes_back_as_it_went_out(
    tmp_path: Path, texts: list[tuple[str, str, str, str]], other: str, delimiter: str
) -> None:
    picks = [
        Pick(
            Candidate(d, q, m, run=other, decoding="{}", question=other + q, answer=answer),
            "stratum",
            1 + i / 3,
            ((other, m, "", "", answer),),
        )
        for i, (d, q, m, answer) in enumerate(texts)
    ]
    labels = read_csv(sheet(tmp_path, picks, {"correct": "yes"}, delimiter=delimiter))
    assert labels.unlabelled == 0
    for pick, label in zip(picks, labels.labels, strict=True):
        assert label.keys == (pick.candidate.key, *pick.duplicates)
        assert (label.answer, label.correct) == (pick.candidate.answer, 1)
        assert (label.weight, label.why, label.gold) == (pick.weight, "stratum", None)


@given(st.lists(nasty, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_no_cell_starts_as_a_formula_would(texts: list[str]) -> None:
    picks = [
        Pick(Candidate(t, t, t, t, t, t, t, t, reason=t), "edge", 1.0, ((t, t, t, t, t),))
        for t in texts
    ]
    stream = io.StringIO(newline="")
    write_csv(picks, stream)
    rows = list(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert rows[0] == list(COLUMNS)
    assert len(rows) == len(texts) + 1
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row
    )


@pytest.mark.parametrize("text", ["007", "1/2", "0.50", "3-4", "1e5", "TRUE", "9" * 16, "1,000"])
def test_answers_that_a_spreadsheet_would_rewrite_go_out_as_text(text: str) -> None:
    stream = io.StringIO(newline="")
    write_csv([Pick(one(text, question=text, answer=text), "edge", 1.0)], stream)
    (row,) = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    assert row["answer"] == row["question_id"] == f"'{text}"
    assert row["question"] == text
    plain = io.StringIO(newline="")
    write_csv([Pick(one(12, answer="12"), "edge", 1.0)], plain)
    assert ",12,0.7,,answer,edge,1.0," in plain.getvalue()


def test_a_sheet_is_a_file_that_spreadsheets_take_for_utf8_with_cells_to_fill(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("old")
    write_csv([Pick(one("é"), "edge", 1.0)], path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfdataset,model,")
    (row,) = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
    assert (row["correct"], row["gold"], row["note"]) == ("", "", "")
    assert row["question"] == "What is é?"
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.csv"]
    assert read_csv(path) == Labels(str(path), (), 1)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (one("x\ud800"), "surrogate"),
        (one(1, answer="9" * 40_000), "answer has 40001 characters"),
    ],
)
def test_a_sheet_that_cannot_be_written_whole_is_not_written(
    tmp_path: Path, bad: Candidate, said: str
) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("old")
    with pytest.raises(InputError, match=said):
        write_csv([Pick(one(1), "edge", 1.0), Pick(bad, "edge", 1.0)], path)
    with pytest.raises(UsageError, match="cannot be written"):
        write_csv([], tmp_path / "no" / "sheet.csv")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.csv"]


def test_a_long_question_is_shown_in_part_and_its_label_still_counts(tmp_path: Path) -> None:
    long = one(1, question="why " * 50_000)
    labels = read_csv(sheet(tmp_path, [Pick(long, "edge", 1.0)], {"correct": "0"}))
    assert labels.labels[0].keys == (long.key,)


HEADER = "dataset,model,decoding,run,question_id,answer,weight,duplicates,correct,gold,note"


def read_text(folder: Path, *rows: str, header: str = HEADER, encoding: str = "utf-8") -> Labels:
    path = folder / "s.csv"
    path.write_bytes("\r\n".join([header, *rows]).encode(encoding))
    return read_csv(path)


@pytest.mark.parametrize(
    ("cells", "correct"),
    [
        (("1", "yes", "Yes", "TRUE", "true", " right ", "RIGHT"), 1),
        (("0", "no", "NO", "False", "wrong", "Wrong"), 0),
    ],
)
def test_right_and_wrong_are_read_in_any_of_the_usual_words(
    tmp_path: Path, cells: tuple[str, ...], correct: int
) -> None:
    rows = [f"d,m,,,{i},12,,,{cell},," for i, cell in enumerate(cells)]
    assert [label.correct for label in read_text(tmp_path, *rows).labels] == [correct] * len(cells)


def test_a_sheet_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    header = "note;gold;correct;mine;answer;question_id;run;decoding;model;dataset;weight"
    rows = ["sure;;1;x;12;7;;;m;d;2,5", ";;;;;;;;;;", ";;;;12;8;;;m;d", ";13;;;12;9;;;m;d;1"]
    labels = read_text(tmp_path, *rows, header=header, encoding="utf-8-sig")
    assert labels.unlabelled == 1
    first, second = labels.labels
    key = ("d", "m", "", "", "7")
    assert first == Label((key,), "12", 1, None, 2.5, None, "sure", 2)
    assert (second.correct, second.gold, second.line) == (None, "13", 5)


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    rows = ['d,m,,,1,12,,,,,"two\r\nlines"', 'd,m,,,2,12,,,perhaps,,"two\r\nmore"']
    with pytest.raises(InputError, match=r"s\.csv:4: correct is 'perhaps'; write 1 or 0") as caught:
        read_text(tmp_path, *rows)
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("d,m,,,1,12,,,2,,", "write 1 or 0"),
        ("d,m,,,1,,,,1,,", "correct is 1 where there is no answer"),
        (",m,,,1,12,,,1,,", "dataset is empty"),
        ("d,m,,,,12,,,1,,", "question_id is empty"),
        ("d,m,,,1,12,much,,1,,", "weight is 'much'"),
        ("d,m,,,1,12,0.5,,1,,", "weight is '0.5'"),
        ("d,m,,,1,12,nan,,1,,", "weight is 'nan'"),
        ("d,m,,,1,12,,[1],1,,", "duplicates is no list of keys"),
        ("d,m,,,1,12,,5,1,,", "duplicates is no list of keys"),
        ('d,m,,,1,12,,"[[""a"",""b""]]",1,,', "duplicates is no list of keys"),
        ("d,m,,,1,12,,[,1,,", "duplicates is no list of keys"),
        ("d,m,,,1,12,,,1,,,more", "12 cells where the header has 11"),
        ('d,m,,,1,"12"x,,,1,,', "broken CSV"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, row: str, said: str
) -> None:
    with pytest.raises(InputError, match=r"s\.csv:2: ") as caught:
        read_text(tmp_path, row)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "encoding", "said"),
    [
        ("dataset,model,correct", "utf-8", "lacks decoding, run, question_id, answer, gold"),
        (HEADER + ",note", "utf-8", "names note twice"),
        ("", "utf-8", "the header lacks dataset"),
        (HEADER + ",é", "latin-1", "not UTF-8; save the sheet as CSV UTF-8"),
        (HEADER, "utf-16", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused(
    tmp_path: Path, header: str, encoding: str, said: str
) -> None:
    with pytest.raises(InputError, match="s.csv") as caught:
        read_text(tmp_path, header=header, encoding=encoding)
    assert said in str(caught.value)


def test_a_sheet_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_csv(tmp_path / "none.csv")


@given(st.binary(max_size=60), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_labels_or_an_input_error(tmp_path: Path, junk: bytes, head: bool) -> None:
    path = tmp_path / "junk.csv"
    path.write_bytes(HEADER.encode() + b"\n" + junk if head else junk)
    try:
        found = read_csv(path)
    except InputError as error:
        refused = error
    else:
        assert isinstance(found, Labels)
        return
    assert str(refused).startswith(str(path))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("d,m,,,1,12,,,1,,", "d,m,,,2,12,,,1,,", "d,m,,,1,12,,,0,,"), "correct is 0"),
        (("d,m,,,1,12,,,,12,", "d,m,,,9,12,,,,,", "d,m,,,1,13,,,,13,"), "gold is '13'"),
        (
            (
                'd,m,,,2,12,,"[[""d"",""m"","""","""",""1""]]",1,,',
                "d,m,,,3,12,,,1,,",
                "d,m,,,1,12,,,0,,",
            ),
            "correct is 0",
        ),
    ],
)
def test_contradictory_labels_of_one_key_name_both_lines(
    tmp_path: Path, rows: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_text(tmp_path, *rows)
    assert caught.value.line == 4
    assert "in line 2; keep one" in str(caught.value)


def test_the_same_label_twice_and_labels_of_two_answers_contradict_nothing(tmp_path: Path) -> None:
    rows = ["d,m,,,1,12,,,1,,", "d,m,,,1,12,,,yes,,", "d,m,,,1,13,,,0,,"]
    assert len(read_text(tmp_path, *rows).labels) == 3


# -- labels back on the pools -------------------------------------------------------------------


def label(made: Pool, answer: str | None, correct: int | None = None, **stated: object) -> Label:
    given = {"keys": (made.key,), "gold": None, "weight": 2.5, "why": "stratum", "note": None}
    given["line"] = 2
    return Label(
        answer=answer,
        correct=correct,
        **{**given, **stated},  # type: ignore[arg-type]
    )


def applied(
    labels: Sequence[Label], pools: Sequence[Labelled], *, override: bool = False
) -> tuple[list[Labelled], LabelCount]:
    count = LabelCount()
    sheet = Labels("s.csv", tuple(labels), 0)
    return list(apply(sheet, pools, override=override, count=count)), count


def test_a_label_grades_the_samples_with_that_answer_and_nothing_else() -> None:
    made = pool("q")
    other = graded(pool("other"))
    (found, same), count = applied([label(made, "12", 1, note="easy")], [graded(made), other])
    assert found.correct == (1, None, 1, None)
    assert (found.pool, found.gold) == (made, None)
    kept = {"source": "label", "answer": "12", "correct": 1, "weight": 2.5, "why": "stratum"}
    assert found.extra == {"labels": [{**kept, "note": "easy"}]}
    assert same is other
    assert (count.used, count.unmatched, count.unknown, count.lines) == (1, 0, 0, set())


def test_a_gold_answer_grades_every_sample_by_kind_and_the_unreadable_as_wrong() -> None:
    made = pool("q", "12", "13", "12.0", None)
    (found,), _ = applied([label(made, "13", gold="#### 12")], [graded(made)])
    assert (found.gold, found.correct) == ("#### 12", (1, 0, 1, 0))
    (found,), _ = applied([label(made, "13", 0, gold="12")], [graded(made)])
    assert found.correct == (1, 0, 1, 0)
    (found,), _ = applied([label(made, None, 0)], [graded(made)])
    assert found.correct == (None, None, None, 0)


def test_a_label_serves_its_duplicates_in_other_pools() -> None:
    made, twin = pool("q"), pool("q", run="2")
    keys = (made.key, twin.key, ("gone", "m", "", "", "q"))
    found, count = applied([label(made, "12", 1, keys=keys)], [graded(twin), graded(made)])
    assert [each.correct for each in found] == [(1, None, 1, None)] * 2
    assert [each.extra["labels"][0]["weight"] for each in found] == [2.5, 2.5]
    assert (count.used, count.unknown, count.lines) == (2, 1, {2})


def test_labels_that_no_pool_or_no_answer_takes_are_counted() -> None:
    made = pool("q")
    unused = [
        label(made, "99", 1, line=3),
        label(made, "12", 1, keys=(("d", "m", "", "", "x"),), line=5),
    ]
    (found,), count = applied(unused, [graded(made)])
    assert found == graded(made)
    assert (count.used, count.unmatched, count.unknown, count.lines) == (0, 1, 1, {3, 5})


def test_a_label_is_about_one_arm_where_samples_name_their_own() -> None:
    arms = (SampleArm(), SampleArm("big"), SampleArm(decoding={"temperature": 0}), SampleArm("big"))
    mixed = graded(pool("q", "12", "12", "12", "13", arms=arms))
    parts = mixed.by_arm()
    assert len(parts) == 3
    for part, correct in zip(
        parts, [(1, None, None, None), (None, 1, None, None), (None, None, 1, None)], strict=True
    ):
        candidate = Candidate.of(part, "12")
        (found,), _ = applied([label(part.pool, "12", 1, keys=(candidate.key,))], [mixed])
        assert found.correct == correct
    (found,), _ = applied([label(parts[1].pool, "12", gold="12")], [mixed])
    assert found.correct == (1, 1, 1, 0)


def test_a_grade_that_is_there_is_not_overruled_unless_it_is_said() -> None:
    made = pool("q")
    before = graded(made, 0, 1, None, None)
    with pytest.raises(InputError, match="in the pool; correct one, or override") as caught:
        applied([label(made, "12", 1)], [before])
    assert (caught.value.path, caught.value.line) == ("s.csv", 2)
    (found,), _ = applied([label(made, "12", 1)], [before], override=True)
    assert found.correct == (1, 1, 1, None)
    (agreed,), _ = applied([label(made, "13", 1)], [before])
    assert agreed.correct == before.correct


def test_a_gold_answer_that_is_there_is_not_overruled_unless_it_is_said() -> None:
    made = pool("q")
    before = graded(made, gold="12")
    with pytest.raises(InputError, match="gold is '13' for question 'q', whose pool has '12'"):
        applied([label(made, "12", gold="13")], [before])
    (found,), _ = applied([label(made, "12", gold="13")], [before], override=True)
    assert (found.gold, found.correct) == ("13", (0, 1, 0, 0))
    (same,), _ = applied([label(made, "12", gold="12.0")], [before])
    assert (same.gold, same.correct) == ("12", (1, 0, 1, 0))


@pytest.mark.parametrize("override", [False, True])
def test_a_sheet_that_contradicts_itself_is_refused_even_to_override(*, override: bool) -> None:
    made = pool("q")
    with pytest.raises(InputError, match="by gold '13'; correct the row"):
        applied([label(made, "12", 1, gold="13")], [graded(made)], override=override)
    rows = [label(made, "12", 1), label(made, "13", gold="13", line=3)]
    with pytest.raises(InputError, match=r"s\.csv:3: .*in another row; keep one"):
        applied(rows, [graded(made)], override=override)


def test_gold_that_is_no_answer_of_the_kind_is_an_input_error_with_its_line() -> None:
    made = pool("q")
    with pytest.raises(InputError, match=r"s\.csv:2: gold answer 'many' is no number answer"):
        applied([label(made, "12", gold="many")], [graded(made)])


def test_applying_a_sheet_twice_changes_nothing_and_a_second_sheet_adds_to_the_first() -> None:
    made = pool("q")
    first, second = label(made, "12", 1), label(made, "13", 0)
    once, _ = applied([first], [graded(made)])
    assert applied([first], once)[0] == once
    (both,), _ = applied([second], once)
    assert both.correct == (1, 0, 1, None)
    assert [entry["answer"] for entry in both.extra["labels"]] == ["12", "13"]


def test_a_column_of_that_name_which_is_something_else_is_not_lost() -> None:
    made = replace(graded(pool("q")), extra={"labels": "mine"})
    with pytest.raises(InputError, match="has a column 'labels' of its own; rename it"):
        applied([label(made.pool, "12", 1)], [made])


def test_from_pools_to_a_sheet_and_back_into_the_file(tmp_path: Path) -> None:
    pools = [graded(pool(f"q{i}", "1/2" if i % 2 else "-3", "0.50", None)) for i in range(12)]
    picks = choose([Candidate.of(each, each.pool.samples[0].answer) for each in pools], 5)
    labels = read_csv(sheet(tmp_path, picks, {"correct": "right", "note": "=fine"}))
    count = LabelCount()
    found = list(apply(labels, pools, count=count))
    assert count.used == 5
    assert sum(each.correct[0] == 1 for each in found) == 5
    back = [pool_from_record(json.loads(json.dumps(pool_record(each)))) for each in found]
    assert [each.extra for each in back] == [each.extra for each in found]
    again = [Candidate.of(each, each.pool.samples[0].answer) for each in back]
    assert sum(candidate.labelled for candidate in again) == 5
    assert coverage(again)[-1].right == 5
    asked = {pick.candidate.question_id for pick in choose(again, 99)}
    assert len(asked) == 7
