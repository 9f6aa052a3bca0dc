"""A file of questions worked through: shared by the verbs that write one line per question.

The whole file is validated before anything is spent, the server is asked what it can do before an
output is opened, each finished question is written at once, and what a kill loses is known from
the journal when the run is resumed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poise.answers.infer import infer_kind
from poise.attempts import ask_capabilities
from poise.cli.arms import Chosen
from poise.cli.progress import Progress
from poise.dispatch import bounds
from poise.errors import (
    BackendError,
    InputError,
    ModelMissing,
    Unauthorized,
    Unavailable,
    UsageError,
)
from poise.grading import canonical_gold
from poise.journal import Journal
from poise.ledger import Ledger, Reservation
from poise.policies import Policy
from poise.pools import QuestionLine, SkipCount, read_questions
from poise.solve import Setting, solve_many
from poise.spend import Spend, priced
from poise.types import Kind, Question, Result, StopReason

__all__ = ["Batch", "Record", "Source", "Summary", "say", "work_through"]

HOPELESS = 10
"""Questions in a row that may fail before the rest of the file is left alone."""

Record = Callable[[QuestionLine, Result], Mapping[str, Any] | None]
"""The output line of a finished question; None where it is not fit to be kept."""


class Source:
    """A question file: checked as a whole first, then read as a stream.

    ``kind`` overrides the file's; where neither says, the kind is inferred from the question.
    ``check_gold``: refuse a gold answer that cannot be read as the question's kind.
    """

    def __init__(
        self,
        file: str,
        kind: Kind | None,
        limit: int | None,
        *,
        skip_bad: bool,
        check_gold: bool = False,
    ):
        if limit is not None and limit < 1:
            raise UsageError(f"--limit {limit}: must be at least 1")
        self.file, self._kind, self._limit = file, kind, limit
        self._skip_bad, self._check_gold = skip_bad, check_gold
        self.skipped = SkipCount()

    def check(self) -> int | None:
        """How many questions there are; None for a stream. Raises InputError at a bad line."""
        path = Path(self.file)
        once = self.file == "-" or path.is_fifo() or path.is_char_device()
        return None if once else sum(1 for _ in self.lines())

    def lines(self) -> Iterator[QuestionLine]:
        """The questions, each with its answer kind settled."""
        self.skipped = SkipCount()
        skipping = self.skipped if self._skip_bad else None
        for number, line in enumerate(read_questions(self.file, skip_bad=skipping)):
            if number == self._limit:
                return
            question = line.question
            kind = self._kind or question.kind or infer_kind(question)
            if kind is Kind.CHOICE and question.options is None:
                raise InputError("a choice needs its options", self.file, line.number)
            if self._check_gold and line.gold is not None:
                try:
                    canonical_gold(line.gold, kind, question.options)
                except InputError as error:
                    raise InputError(error.problem, self.file, line.number) from None
            yield replace(line, question=replace(question, kind=kind))


@dataclass(frozen=True, slots=True)
class Batch:
    """How every question of the file is solved."""

    chosen: Chosen
    policy: Policy
    setting: Setting
    budget: Ledger | None
    concurrency: int


@dataclass(slots=True)
class Summary:
    """What became of the file. ``unwritten``: questions that failed and can be asked again."""

    written: int = 0
    answered: int = 0
    stops: Counter[str] = field(default_factory=Counter)
    unwritten: int = 0
    last_error: str = ""
    out_of_budget: bool = False
    spend: Spend = field(default_factory=Spend)


async def work_through(
    source: Source,
    batch: Batch,
    output: Path | None,
    *,
    record: Record,
    header: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> Summary:
    """Solve every question of ``source`` that the output does not hold yet; write each at once.

    Raises BackendError (exit code 5) when the server cannot be reached or questions failed; what
    was finished by then is written and ``--resume`` does the rest.
    """
    backend = batch.chosen.arm.backend
    if resume and overwrite:
        raise UsageError("--resume continues an output and --overwrite replaces it; give one")
    _check_caps(batch)
    try:
        total = source.check()
        able = await ask_capabilities(backend, batch.setting.attempts)
        journal = _open(batch, output, _header(batch, header), resume=resume, overwrite=overwrite)
        with journal:
            warm_up = priced(able.spend, batch.chosen.arm.price)
            if batch.budget is not None:
                batch.budget.absorb(warm_up)
            for note in able.notes:
                say(f"the {'pool' if backend.engine == 'stored' else 'server'}: {note}")
            done = journal.finished
            progress = Progress(total, done=done, quiet=quiet)
            summary = Summary(spend=warm_up)
            await _work(source, batch, journal, record, progress, summary)
            progress.close(summary.spend)
            journal.close(clean=not summary.unwritten and not summary.out_of_budget)
    except asyncio.CancelledError:
        say("interrupted" + ("" if output is None else f"; --resume goes on with {output}"))
        raise
    finally:
        await backend.aclose()
    _report(summary, source, output)
    return summary


def _check_caps(batch: Batch) -> None:
    """Raise UsageError for caps that cannot be kept, before anything is opened or spent."""
    ledger = Ledger(batch.setting.limits, batch.chosen.arm.price, batch.budget)
    if ledger.caps_tokens and "max_tokens" not in batch.chosen.arm.decoding:
        raise UsageError(
            "a cap on tokens or dollars needs to know the longest reply; give --reply-tokens"
        )


def _header(batch: Batch, verb: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change between the parts of a resumed run."""
    arm = batch.chosen.arm
    return {
        **verb,
        "engine": arm.backend.engine,
        "model": arm.backend.model,
        "decoding": dict(arm.decoding),
        "prompt": {kind.value: arm.prompt.hash(kind) for kind in Kind},
        "policy": repr(batch.policy),
        "seed": batch.setting.seed,
        "limits": repr(batch.setting.limits),
        "profile": None if batch.setting.profile is None else batch.setting.profile.id,
    }


def _open(
    batch: Batch, output: Path | None, header: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Journal:
    path = "-" if output is None else output
    if not resume:
        return Journal.create(path, header, overwrite=overwrite)
    before = Spend()

    def add(record: Mapping[str, Any]) -> None:
        nonlocal before
        spend = Spend.from_dict(record.get("spend", {"samples": _drawn(record)}))
        unknown = "spend" not in record or spend.tokens is None
        if unknown and batch.budget is not None and batch.budget.caps_tokens:
            raise UsageError(
                f"{path}: its lines do not say how many tokens they took, so a budget of tokens"
                " or dollars cannot go on; give one in samples"
            )
        before = before + spend

    journal = Journal.resume(path, header, on_record=add)
    lost = journal.lost
    if lost.questions:
        say(
            f"{lost.questions} questions were in flight when the last run ended; at most"
            f" {lost.samples} samples and {lost.tokens} tokens of spend are lost"
        )
    if batch.budget is not None:
        batch.budget.absorb(before, held_tokens=lost.tokens, held_samples=lost.samples)
    return journal


def _drawn(record: Mapping[str, Any]) -> int:
    """Samples in a pool line, which states no spend of its own."""
    return len(record.get("samples", ()))


async def _work(
    source: Source,
    batch: Batch,
    journal: Journal,
    record: Record,
    progress: Progress,
    summary: Summary,
) -> None:
    waiting: dict[str, QuestionLine] = {}

    def questions() -> Iterator[Question]:
        for line in source.lines():
            if not journal.is_finished(line.question.id):
                waiting[line.question.id] = line
                yield line.question

    def reserved(question_id: str, reservation: Reservation) -> None:
        journal.reserve(question_id, reservation.samples, reservation.tokens, reservation.usd)

    results = solve_many(
        questions(),
        batch.chosen.arm_for,
        batch.policy,
        replace(batch.setting, on_reserve=reserved),
        budget=batch.budget,
        concurrency=batch.concurrency,
    )
    try:
        in_a_row = 0
        async for question, result in results:
            line = waiting.pop(question.id)
            summary.spend = summary.spend + result.spend
            spent = result.stop is StopReason.BUDGET and _used_up(batch, question)
            if spent and not result.samples:
                summary.out_of_budget = True
                continue
            kept = None if _can_be_asked_again(result) else record(line, result)
            if kept is None and spent:
                summary.out_of_budget = True
                continue
            if kept is None:
                summary.unwritten += 1
                summary.last_error = str(result.error or result.reason)
                in_a_row += 1
                if in_a_row >= HOPELESS or isinstance(result.error, _POINTLESS):
                    break
                continue
            in_a_row = 0
            journal.write(kept)
            summary.written += 1
            summary.answered += result.answer is not None or result.kind is None
            summary.stops[result.stop.value] += 1
            progress.finished(summary.spend)
    finally:
        await results.aclose()


def _used_up(batch: Batch, question: Question) -> bool:
    """Whether the file's budget has no room for one more sample of ``question``."""
    if batch.budget is None:
        return False
    prompt, reply = bounds(batch.chosen.arm_for(question), question)
    return not batch.budget.room(1, prompt, reply, once_settled=True)


_POINTLESS = (Unavailable, Unauthorized, ModelMissing)
"""Errors that the next question would meet as well."""


def _can_be_asked_again(result: Result) -> bool:
    """Nothing arrived, for a reason that lies with the server and not with the question."""
    error = result.error
    if result.samples or not isinstance(error, BackendError):
        return False
    return error.retryable or isinstance(error, _POINTLESS)


def _report(summary: Summary, source: Source, output: Path | None) -> None:
    """Say what was left out, on stderr. Raises BackendError when questions failed."""
    for error in source.skipped.first:
        say(f"skipped: {error}")
    if source.skipped.count:
        say(f"{source.skipped.count} unusable lines were skipped")
    again = "" if output is None else "; --resume goes on from here"
    if summary.out_of_budget:
        say(f"the budget is used up after {summary.written} questions{again}")
    if summary.unwritten:
        raise BackendError(f"{summary.unwritten} questions failed ({summary.last_error}){again}")


def say(line: str) -> None:
    """One line of notice on stderr."""
    print(f"poise: {line}", file=sys.stderr)  # noqa: T201
