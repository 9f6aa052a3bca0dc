"""P(True): how probable the model finds "yes" when asked whether an answer is correct.

Three wordings, each a signal of its own, because the same model answers them differently. It does
not know whether "yes" is calibrated (mostly it is not), or who asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

from poise.errors import MissingEvidence, Unusable, UsageError
from poise.signals.asking import Ask, around, replied
from poise.signals.evidence import Evidence
from poise.types import FollowUp, Prompt, Question, Sample, TokenLogprobs

__all__ = ["LEAST_MASS", "PTrue", "side"]

LEAST_MASS = 0.1
"""Below this much probability on yes and no together, their ratio is about something else."""

MOST_HIDDEN = 0.05
"""How far what was not listed may move the ratio where only one side was listed."""

TOP = 20
_NAMES = {"user": "p_true", "proposed": "p_true_proposed", "own": "p_true_own"}
_VERSIONS = {"user": 1, "proposed": 1, "own": 1}
_SHOWN = {
    "user": "\nMy answer: {}\n\nIs my answer True or False? Reply with one word, True or False.",
    "proposed": (
        "\nProposed answer: {}\n"
        "Is the proposed answer True or False? Reply with one word, True or False."
    ),
}
_ASKED_BACK = "Is your answer correct? Reply with one word, Yes or No."
_YES, _NO = frozenset({"yes", "true"}), frozenset({"no", "false"})
_MARKS = " \t\r\n*_`\"'“”‘’()[]<>.,:;!?#-▁ĠĊ"
"""What may stand around the word in one token: blanks, stops, emphasis, tokenizers' own blanks."""


@dataclass(frozen=True, slots=True)
class PTrue:
    """P(yes) / (P(yes) + P(no)) for the first token of the reply: [0, 1].

    ``wording``: ``user`` shows the answer as the user's own, so that the model does not favour its
    own words; ``proposed`` leaves open where it comes from (Kadavath et al. 2022, arXiv
    2207.05221); ``own`` goes on with the conversation after the sample's full text
    (Self-Calibration, Huang et al. 2025, arXiv 2503.00031). The first two show the answer alone:
    samples that agree share one call.

    Yes is summed over all tokens that are the word "yes" or "true" in any case, with blanks, stops
    or marks of emphasis around it, no likewise over "no" and "false"; parts of words ("Y") count
    for neither. Alternatives that were not listed count as 0, as long as that hides little: where
    only one side was listed, the other has at most what the list leaves over. A reply that opens
    with thinking is read behind it.

    Where no reply was kept, a number in [0, 1] that the file stores under the signal's name is
    taken. Raises MissingEvidence without either, without top log-probabilities, where yes and no
    have less than ``LEAST_MASS`` together, where one side was not listed and could move the ratio
    by more than ``MOST_HIDDEN``, and where the reply ends in its thinking; UsageError for any other
    ``wording``.
    """

    level: ClassVar[Literal["sample"]] = "sample"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    wording: Literal["user", "proposed", "own"] = "user"

    def __post_init__(self) -> None:
        if self.wording not in _NAMES:
            raise UsageError(f"wording={self.wording!r}: must be user, proposed or own")

    @property
    def name(self) -> str:
        """``p_true``, ``p_true_proposed`` or ``p_true_own``."""
        return _NAMES[self.wording]

    @property
    def needs(self) -> tuple[str, ...]:
        """The reply to its own follow-up."""
        return (self.name,)

    @property
    def version(self) -> int:
        """Of the wording."""
        return _VERSIONS[self.wording]

    def ask(self, question: Question, sample: Sample | None) -> Ask | None:
        """One token, with its top 20; None for no readable answer (``own``: or no text)."""
        if sample is None or sample.answer is None:
            return None
        if self.wording != "own":
            shown = _SHOWN[self.wording].format(sample.answer)
            return Ask(around(question, "Question: ", shown), 1, TOP)
        if not sample.text:
            return None
        messages = (
            *Prompt().messages(question),
            {"role": "assistant", "content": sample.text},
            {"role": "user", "content": _ASKED_BACK},
        )
        return Ask(messages, 1, TOP)

    def __call__(self, evidence: Evidence) -> float:
        """The share of yes in the reply about the one sample."""
        sample = evidence.only
        found = replied(self.name, self.version, sample.followups, sample.signals)
        return found if isinstance(found, float) else _share_of_yes(found)


def _share_of_yes(reply: FollowUp) -> float:
    if reply.logprobs is None or not reply.logprobs.top:
        raise MissingEvidence(
            "the follow-up's reply came without top log-probabilities; ask the server for them"
        )
    place = _first_word(reply.logprobs)
    listed = list(reply.logprobs.top[place])
    chosen = reply.logprobs.tokens[place]
    # One text twice in the list is two tokens that a tokenizer spells alike; the chosen token is
    # one of those listed, unless the draw went beyond the list.
    if all(text != chosen for text, _ in listed):
        listed.append((chosen, reply.logprobs.chosen[place]))
    yes, no = (
        math.fsum(math.exp(logprob) for text, logprob in listed if side(text) == word)
        for word in ("yes", "no")
    )
    if yes + no < LEAST_MASS:
        raise Unusable(
            f"yes and no have {yes + no:.2g} of the probability together, less than {LEAST_MASS}: "
            f"the reply opens with {chosen!r}"
        )
    hidden = max(0.0, 1 - math.fsum(math.exp(logprob) for _, logprob in listed))
    if not (yes and no) and hidden / (yes + no + hidden) > MOST_HIDDEN:
        other = "no" if yes else "yes"
        raise Unusable(
            f"{other!r} is not among the {len(listed)} tokens listed, which leave {hidden:.2g} of"
            " the probability over; ask a server that lists more"
        )
    return yes / (yes + no)


def side(token: str) -> Literal["yes", "no"] | None:
    """What a token says: yes (or true), no (or false), None for anything else and for parts."""
    word = token.strip(_MARKS).casefold()
    return "yes" if word in _YES else "no" if word in _NO else None


def _first_word(logprobs: TokenLogprobs) -> int:
    """The token that answers: the first that is more than blanks and marks, behind any thinking."""
    whole = "".join(logprobs.tokens)
    opening = whole.lstrip()[: len("<think>")]
    closed = whole.rfind("</think>")
    if closed < 0 and opening and "<think>".startswith(opening):
        raise Unusable("the follow-up's reply ended inside its thinking")
    after = 0 if closed < 0 else closed + len("</think>")
    ends = accumulate(len(token) for token in logprobs.tokens)
    places = [
        place
        for place, (token, end) in enumerate(zip(logprobs.tokens, ends, strict=True))
        if end - len(token) >= after
    ]
    if not places:
        raise Unusable("the follow-up's reply holds nothing after its thinking")
    words = (place for place in places if logprobs.tokens[place].strip(_MARKS))
    return next(words, places[0])
