"""The fitted artefact: what turns a stopped question into a probability, and where it came from.

One JSON file, versioned and sealed with a SHA-256 (against accidents, not against forgers). A
profile speaks for one arm, one answer kind, one kind of question and one policy; for anything else
it says why it does not apply, and no probability is claimed. It does not know how it was fitted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from poise.calibrators import Calibrator, from_state, to_state
from poise.domain import QuestionTest
from poise.errors import InputError, UsageError
from poise.policies import STOP_RULES, Policy
from poise.signals import Evidence, compute
from poise.state_map import StateMap
from poise.types import Kind, Question, StopReason
from poise.votes import Majority

__all__ = ["SCHEMA", "SHIPPED", "Profile", "Stated", "load"]

SCHEMA = 1
SHIPPED = Path(__file__).parent / "profiles" / "smollm2_number.json"
"""The embedded model's profile, for arithmetic; ``make profile`` fits it again."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A calibrated probability, or the reason why there is none; signals and what was missing."""

    probability: float | None
    interval: tuple[float, float] | None
    reason: str | None
    signals: Mapping[str, float | None]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """What was fitted for one arm, kind and policy.

    ``arm``: engine, model, decoding, prompt_hash. ``replicates``: both maps refitted on
    bootstrap draws of the questions, for the interval. ``data``: fingerprint, questions, samples.
    ``considered``: every candidate and baseline with its held-out numbers. ``detection``: share of
    other tasks' questions that the domain test turns away.
    """

    id: str
    version: int
    arm: Mapping[str, Any]
    kind: Kind
    datasets: tuple[str, ...]
    policy: Policy
    state_map: StateMap
    final_map: Calibrator
    domain: QuestionTest
    replicates: tuple[tuple[StateMap, Calibrator], ...] = ()
    parent: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    considered: tuple[Mapping[str, Any], ...] = ()
    detection: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    created: str = ""

    @property
    def wants_logprobs(self) -> bool:
        """Whether the samples have to come with their tokens' log-probabilities."""
        return any("logprob" in name for name in self.state_map.signals)

    def provenance(self) -> dict[str, Any]:
        """What a result says about where its probability comes from."""
        return {"id": self.id, "version": self.version, "domain": ", ".join(self.datasets)}

    def applies(
        self, arm: Mapping[str, Any], policy: Policy, vote: object, question: Question
    ) -> str | None:
        """None where this profile speaks for the question; else the reason why it does not."""
        if not isinstance(vote, Majority):
            return "the profile was fitted on majority votes"
        if not _is_plain(question):
            return "the profile is for single questions in plain text"
        if arm.get("engine") == "http":
            return "the server does not say what runs the model, so the arm is not known"
        if question.kind is not self.kind:  # a prompt depends on it, so the arm would differ too
            return f"the profile is for answers of kind {self.kind.value}"
        for name, wanted in self.arm.items():
            if arm.get(name) != wanted:
                return f"the profile is for another arm: {name} is not {_short(wanted)}"
        if policy != self.policy:
            return f"the profile was fitted at the stops of another policy: {self.policy.stop}"
        if not self.domain.accepts(question.text):
            return f"outside the profile's domain ({', '.join(self.datasets)})"
        return None

    def state(self, evidence: Evidence, stop: StopReason, lost: int = 0) -> Stated:
        """The probability that the leader is right, at the policy's own stop.

        A stop that the policy did not choose (a deadline, a spending cap, a failure) and a draw
        that was ``lost`` on the way select replies in a way that nothing was fitted for: long ones
        time out. They get none.
        """
        values, missing = compute(self.state_map.signals, evidence)
        reason = None
        if stop in {StopReason.DEADLINE, StopReason.ERROR, StopReason.SINGLE} or (
            stop is StopReason.BUDGET and evidence.n != self.policy.stop.max_samples
        ):
            reason = f"sampling was stopped by {stop.value}, not by the profile's policy"
        elif lost:
            reason = f"{lost} draws were lost to failed calls, which are not a fair selection"
        elif evidence.leader is None:
            reason = "no sample holds a readable answer"
        elif missing:
            name, why = next(iter(missing.items()))
            reason = f"the profile needs {name}: {why}"
        if reason is not None:
            return Stated(None, None, reason, values, missing)
        columns = {name: np.array([value], np.float64) for name, value in values.items()}
        maps = [(self.state_map, self.final_map), *self.replicates]
        stated = np.array(
            [
                final.predict_proba(state.probability([evidence.n], columns))[0, 1]
                for state, final in maps
            ]
        )
        interval = None
        if self.replicates:
            low, high = np.quantile(stated[1:], [0.025, 0.975])
            interval = (float(low), float(high))
        return Stated(float(stated[0]), interval, None, values, missing)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, sealed."""
        stop = self.policy.stop
        body = {
            "schema": SCHEMA,
            "id": self.id,
            "version": self.version,
            "parent": self.parent,
            "arm": dict(self.arm),
            "domain": {
                "kind": self.kind.value,
                "datasets": list(self.datasets),
                "test": self.domain.state(),
                "detection": dict(self.detection),
            },
            "signals": [{"name": name} for name in self.state_map.signals],
            "state_map": self.state_map.state(),
            "policy": {
                "stop": next(name for name, kind in STOP_RULES.items() if kind is type(stop)),
                "params": {name.name: getattr(stop, name.name) for name in fields(stop)},  # type: ignore[arg-type]
            },
            "final_map": to_state(self.final_map),
            "replicates": [[state.state(), to_state(final)] for state, final in self.replicates],
            "data": dict(self.data),
            "considered": [dict(one) for one in self.considered],
            "note": self.note,
            "created": self.created,
        }
        return {**body, "sha256": _seal(body)}

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file whole or not at all. Raises UsageError where it exists or cannot be."""
        target = Path(path)
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists; name another output or pass --overwrite")
        partial = target.with_name(target.name + ".partial")
        try:
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n"
            partial.write_text(text, "utf-8")
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UsageError(f"{target}: cannot be written ({error.strerror})") from None


def load(path: str | Path) -> Profile:
    """Read a profile. Raises InputError: not one, of a newer schema, or changed since written."""
    try:
        body = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    except (ValueError, RecursionError):
        raise InputError("not a JSON file", path) from None
    if not isinstance(body, dict) or not isinstance(body.get("schema"), int):
        raise InputError("not a profile: it states no schema", path)
    if body["schema"] > SCHEMA:
        raise InputError(f"schema {body['schema']} is newer than this Poise knows; update", path)
    if body.pop("sha256", None) != _seal(body):
        raise InputError("changed since it was written (SHA-256 differs); fit it again", path)
    try:
        return _read(body)
    except InputError as error:
        raise InputError(error.problem, path) from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a profile ({type(error).__name__}: {error})", path) from None


def _read(body: Mapping[str, Any]) -> Profile:
    domain, stop = body["domain"], body["policy"]
    return Profile(
        id=body["id"],
        version=body["version"],
        parent=body["parent"],
        arm=body["arm"],
        kind=Kind(domain["kind"]),
        datasets=tuple(domain["datasets"]),
        domain=QuestionTest.from_state(domain["test"]),
        detection=domain["detection"],
        policy=Policy(STOP_RULES[stop["stop"]](**stop["params"])),
        state_map=StateMap.from_state(body["state_map"]),
        final_map=from_state(body["final_map"]),
        replicates=tuple(
            (StateMap.from_state(state), from_state(final)) for state, final in body["replicates"]
        ),
        data=body["data"],
        considered=tuple(body["considered"]),
        note=body["note"],
        created=body["created"],
    )


def _is_plain(question: Question) -> bool:
    """One user turn of text; options only where they are what is chosen from."""
    only = question.messages[0]
    plain = only.get("role") == "user" and isinstance(only.get("content"), str)
    chosen_from = question.options is None or question.kind is Kind.CHOICE
    return len(question.messages) == 1 and plain and chosen_from


def _seal(body: Mapping[str, Any]) -> str:
    plain = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
