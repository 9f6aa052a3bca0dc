"""The card: how true probabilities are, for people. From a profile, or from graded pools.

Of the folder of a training run: after how many questions it pays for itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli import options
from poise.cli.batch import say
from poise.cli.break_even import report_training
from poise.cli.output import refuse_existing
from poise.cli.selection import read_arms
from poise.errors import InputError, RefusedError, UsageError
from poise.fit.pools import fingerprint
from poise.labelling import last_label
from poise.pools import Labelled
from poise.profile import Profile, load
from poise.report import Card, Decision, Evaluation, make_card, write_card
from poise.score import Scored, score

SUFFIXES = (".html", ".png", ".json")


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A profile, graded pool files, or the folder of a training run.", metavar="FILE…"
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help="Card to write: .html, .png or .json; repeats."),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Judge this profile on the pools.")
    ] = None,
    signals: Annotated[
        str | None,
        typer.Option("--signals", help="Without a profile: the signal in [0, 1] to judge."),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            "--price",
            help="Of a training run, in dollars: hour=1.2,sample=0.001,token=4e-7, any of these.",
        ),
    ] = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,  # noqa: FBT002 - a flag
    as_json: options.AsJson = False,  # noqa: FBT002 - a flag
    quiet: options.Quiet = False,  # noqa: FBT002 - a flag
) -> None:
    """Make a card, or say when training is even."""
    if any(path.is_dir() for path in files):
        others = (output, profile, signals, seed or None, overwrite or None, quiet or None)
        if len(files) > 1 or any(other is not None for other in others):
            raise UsageError("a training run's folder goes alone, with --price and --json only")
        report_training(files[0], price, as_json=as_json)
        return
    if price is not None:
        raise UsageError("--price is for the folder of a training run")
    for path in output or ():
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: a card is {', '.join(SUFFIXES)}")
        refuse_existing(path, overwrite=overwrite)
    if output is None and not as_json:
        raise UsageError("name the card to write with -o card.html, or pass --json")
    evaluation, decision = _read(files, profile, signals)
    card = make_card(evaluation, decision, seed=seed)
    for path in output or ():
        write_card(card, path, overwrite=overwrite)
    if as_json:
        print(json.dumps(card.to_dict(), ensure_ascii=False))  # noqa: T201
    elif not quiet:
        _say(card, output or [])


def _read(
    files: list[Path], profile: Path | None, signals: str | None
) -> tuple[Evaluation, Decision | None]:
    if len(files) == 1 and _is_profile(files[0]):
        if profile is not None or signals is not None:
            raise UsageError("a profile's own card takes no --profile and no --signals")
        one = load(files[0])
        return of_profile(one), decision_of(one)
    pools = list(read_arms(files))
    if profile is not None:
        if signals is not None:
            raise UsageError("--profile and --signals both say what to judge; give one")
        fitted = load(profile)
        return of_pools(pools, fitted, "agreement"), decision_of(fitted)
    return of_pools(pools, None, options.one_signal(signals, "agreement")), None


def _is_profile(path: Path) -> bool:
    """Whether the file is one JSON object that is no pool, going by its first line."""
    try:
        with path.open("rb") as stream:
            first = next((line for line in stream if line.strip()), b"")
    except OSError:
        return False  # who reads pools says so
    try:
        found = json.loads(first)
    except (ValueError, RecursionError):
        return first.strip() == b"{" or path.suffix == ".json"
    return isinstance(found, dict) and "schema" in found and "samples" not in found


def of_profile(profile: Profile) -> Evaluation:
    """What the profile would have stated of the questions it was fitted on, by maps without them.

    Raises InputError for a profile that keeps no such rows.
    """
    kept = profile.held_out
    if not kept:
        raise InputError("the profile keeps no held-out rows; fit it again")
    raw = kept["raw"]
    return Evaluation(
        right=kept["right"],
        stated=kept["stated"],
        raw=None if raw is None else raw["values"],
        raw_name="" if raw is None else raw["name"],
        group=kept["question"],
        segment=_segments(kept["segment"]),
        baselines=kept["baselines"],
        left_out=_unsaid(profile.data.get("without_probability", 0)),
        held_out=True,
        name=f"profile {profile.id}, questions it was fitted on, each by maps without it",
    )


def of_pools(pools: list[Labelled], profile: Profile | None, raw_name: str) -> Evaluation:
    """The answers of graded pools: stated by ``profile``, or the raw signal taken at its word.

    Raises RefusedError where no answer has both a label and a probability.
    """
    left_out: Counter[str] = Counter()
    rows: list[tuple[Labelled, Scored, float, float | None, int]] = []
    for one in pools:
        found = score(one.pool, None if profile is not None else [raw_name], profile)
        raw = found.stated.signals.get(raw_name)
        stated = found.stated.probability if profile is not None else raw
        label = None if found.place is None else one.correct[found.place]
        if found.place is None:
            left_out["no readable answer"] += 1
        elif stated is None:
            why = found.stated.reason if profile is not None else f"{raw_name} is missing"
            left_out[why or "no probability"] += 1
        elif label is None:
            left_out["the answer is not graded"] += 1
        elif not 0 <= stated <= 1:
            raise UsageError(f"--signals {raw_name}: {stated} is not in [0, 1]")
        else:
            rows.append((one, found, stated, raw, label))
    if not rows:
        why = "; ".join(f"{count} {reason}" for reason, count in left_out.most_common(3))
        raise RefusedError(f"no answer has a label and a probability ({why})")
    beside = profile is not None and all(raw is not None for *_, raw, _ in rows)
    segments = [found.segment for _, found, *_ in rows]
    return Evaluation(
        right=[label for *_, label in rows],  # type: ignore[arg-type]
        stated=[stated for _, _, stated, _, _ in rows],  # type: ignore[arg-type]
        raw=[raw for *_, raw, _ in rows] if beside else None,  # type: ignore[arg-type]
        raw_name=raw_name if beside else "",
        group=[one.pool.group for one, *_ in rows],
        segment=_segments(segments),
        left_out=dict(left_out),
        held_out=None if profile is None or not _fitted_on(profile, pools) else False,
        caveats=_picked([(one, stated, label) for one, _, stated, _, label in rows]),
        name=_name(pools, profile, raw_name),
    )


def _fitted_on(profile: Profile, pools: list[Labelled]) -> bool:
    return fingerprint(pools) == profile.data.get("fingerprint")


def _picked(rows: list[tuple[Labelled, float, int]]) -> tuple[str, ...]:
    """What to know where labels were picked and not drawn at random; () where none were."""
    kept = [(last_label(one), stated, label) for one, stated, label in rows]
    picked = [(one, stated, label) for one, stated, label in kept if one is not None]
    known = [
        (float(one["weight"]), stated, label)
        for one, stated, label in picked
        if isinstance(one.get("weight"), int | float) and one["weight"] > 0
    ]
    edges = sum(one.get("why") == "edge" for one, *_ in picked)
    alike = len({weight for weight, *_ in known}) == 1 and edges < len(picked)
    if not picked or (alike and len(known) == len(rows)):
        return ()
    said = (
        f"{len(picked)} of {len(rows)} labels are of answers that were picked, {edges} of them as"
        " edge cases: the numbers are unweighted, so they are about what was picked, and biased for"
        " all answers."
    )
    if not known:
        return (f"{said} A review queue states no weights to correct it with.",)
    total = sum(weight for weight, *_ in known)
    right = sum(weight * label for weight, _, label in known) / total
    says = sum(weight * stated for weight, stated, _ in known) / total
    weighted = f"{right:.3f} are right and {says:.3f} is stated on average"
    return (f"{said} Weighted by what each pick stands for ({len(known)} labels), {weighted}.",)


def decision_of(profile: Profile) -> Decision:
    """The profile's decision record, in the card's words."""
    stop = profile.policy.stop
    chosen = next(
        (one["what"] for one in profile.considered if one["what"].startswith("chosen")), None
    )
    return Decision(
        profile=profile.id,
        version=profile.version,
        arm=profile.arm,
        kind=profile.kind.value,
        datasets=profile.datasets,
        policy=f"{stop}",
        considered=profile.considered,
        chosen=chosen,
        why=(
            "the signals were named, or are those that cost nothing; the final map is the one that"
            " `auto` chose, by the least held-out log loss behind its guards"
        ),
        limits=(
            "It speaks for this arm, this policy and questions worded like those it was fitted on.",
            "It does not see drift: outcomes have to be compared with it as they come in.",
        ),
        note=profile.note,
        created=profile.created,
        data={name: profile.data[name] for name in ("fingerprint", "questions", "samples")},
        detection=profile.detection,
    )


def _segments(names: list[str | None] | None) -> list[str] | None:
    if names is None or not any(names):
        return None
    return [name or "(none)" for name in names]


def _unsaid(count: int) -> Mapping[str, int]:
    return {"no probability at the stop": count} if count else {}


def _name(pools: list[Labelled], profile: Profile | None, raw_name: str) -> str:
    datasets = ", ".join(sorted({one.pool.dataset for one in pools}))
    said = raw_name if profile is None else f"profile {profile.id}"
    return f"{said} on {datasets}"


def _say(card: Card, output: list[Path]) -> None:
    told: Any = card.to_dict()
    say(told["verdict"])
    for finding in told["findings"]:
        say(f"{finding['level']}: {finding['text']}")
    for path in output:
        say(f"{path} written")
