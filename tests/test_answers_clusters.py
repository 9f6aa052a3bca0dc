"""Same-answer clusters, and the kind of a question that names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.answers.clusters import Clusters
from poise.answers.infer import infer_kind
from poise.types import Kind, Question

NUMBER, CHOICE, YESNO, TEXT = Kind.NUMBER, Kind.CHOICE, Kind.YESNO, Kind.TEXT


def test_an_answer_joins_the_first_cluster_whose_first_member_it_equals():
    clusters = Clusters(NUMBER)
    drawn = ["0.5", None, "2", "1/2", "0.50", "2.0", None, "3"]
    assert [clusters.add(answer) for answer in drawn] == [0, None, 1, 0, 0, 1, None, 2]
    assert clusters.clusters == (0, None, 1, 0, 0, 1, None, 2)
    assert clusters.counts == (3, 2, 1)
    assert clusters.answers == ("0.5", "2", "3")


def test_stored_answers_are_clustered_by_their_spelling():
    clusters = Clusters(None)
    assert [clusters.add(answer) for answer in ("0.5", "1/2", "0.5")] == [0, 1, 0]


@given(st.lists(st.none() | st.sampled_from(["1", "1.0", "2", "4/2", "x"]), max_size=20))
def test_every_readable_sample_is_one_vote_and_a_prefix_never_changes(answers):
    clusters = Clusters(NUMBER)
    for n, drawn in enumerate(answers):
        before = clusters.clusters
        clusters.add(drawn)
        assert clusters.clusters[:n] == before
    assert sum(clusters.counts) == sum(drawn is not None for drawn in answers)
    seen = [cluster for cluster in clusters.clusters if cluster is not None]
    assert list(dict.fromkeys(seen)) == list(range(len(clusters.counts)))
    assert [seen.count(cluster) for cluster in range(len(clusters.counts))] == list(clusters.counts)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What is 23 + 45?", NUMBER),
        ("12 * (3 - 1) =", NUMBER),
        ("Calculate 7 × -8", NUMBER),
        ("What's 20% of 50?", None),
        ("Tom has 3. How many are left?", NUMBER),
        ("What is x?", None),
        ("In total, how much did he pay?", NUMBER),
        ("How many left, and why?", None),
        ("42", None),
        ("Is 7 prime?", YESNO),
        ("Did Rome fall?", YESNO),
        ("Is it red or blue?", None),
        ("Can you write a poem?", None),
        ("Do you know him?", None),
        ("It rains. Is it wet?", None),
        ("Is this right", None),
        ("Who wrote Faust?", None),
        ("", None),
        ("What is 3 + x?", None),
    ],
)
def test_a_kind_is_guessed_only_where_the_wording_is_plain(text, kind):
    assert infer_kind(Question.ask(text)) is kind


def test_options_make_a_choice_and_a_stated_kind_stays():
    assert infer_kind(Question.ask("Is it?", options=("x", "y"))) is CHOICE
    assert infer_kind(Question.ask("What is 1 + 1?", Kind.TEXT)) is TEXT


def test_a_question_with_pictures_is_not_guessed_from_its_wire_form():
    parts = ({"role": "user", "content": [{"type": "text", "text": "how many?"}]},)
    assert infer_kind(Question("1", parts)) is None
