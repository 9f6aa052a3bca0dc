"""The fitted artefact: what turns a stopped question into a probability, and where it came from.

One JSON file, versioned and sealed with a SHA-256 (against accidents, not against forgers). A
profile speaks for one arm, one answer kind, one kind of question and one policy; for anything else
it says why it does not apply, and no probability is claimed. It does not know how it was fitted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from poise.calibrators import Calibrator
from poise.capability import Capability
from poise.content import check_content
from poise.domain import QuestionTest
from poise.errors import InputError, UsageError
from poise.files import refuse_existing, whole
from poise.maps import Maps
from poise.policies import EXIT_RULES, STOP_RULES, Policy
from poise.segmenter import Segmenter
from poise.signals import (
    AskingSignal,
    Evidence,
    SegmentHistory,
    Signal,
    asking,
    logprobs_for,
    readings,
    signal,
)
from poise.state_map import StateMap
from poise.types import Kind, Question, StopReason
from poise.votes import Majority

__all__ = ["SCHEMA", "SHIPPED", "Profile", "Stated", "load"]

SCHEMA = 2
SHIPPED = Path(__file__).parent / "profiles" / "smollm2_number.json"
"""The embedded model's profile, for arithmetic; ``make profile`` fits it again."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A calibrated probability, or the reason why there is none; signals and what was missing.

    ``used``: the signals it was read from. ``capability``: (a, b) of the Beta posterior of mu.
    """

    probability: float | None
    interval: tuple[float, float] | None
    reason: str | None
    signals: Mapping[str, float | None]
    missing: Mapping[str, str]
    used: tuple[str, ...] = ()
    capability: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What was fitted for one arm, kind and policy.

    ``arm``: engine, model, decoding, prompt_hash. ``maps``: the one that reads most signals first,
    and others for when some are missing. ``history``: how earlier questions of each segment went;
    ``segmenter`` finds a question's segment. ``certificate``: what is guaranteed of this policy, as
    ``tune`` states it; void with any other. ``data``: fingerprint, questions, samples, held-out
    numbers. ``held_out``: columns of what would have been stated of each question by maps that had
    not seen it. ``considered``: every candidate and baseline with its held-out numbers.
    ``detection``: share of other tasks' questions that the domain test turns away.
    """

    id: str
    version: int
    arm: Mapping[str, Any]
    kind: Kind
    datasets: tuple[str, ...]
    policy: Policy
    maps: tuple[Maps, ...]
    domain: QuestionTest
    history: SegmentHistory | None = None
    segmenter: Segmenter | None = None
    capability: Capability | None = None
    certificate: Mapping[str, Any] | None = None
    parent: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    considered: tuple[Mapping[str, Any], ...] = ()
    detection: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    created: str = ""

    @property
    def state_map(self) -> StateMap:
        """The state map that reads most signals."""
        return self.maps[0].state_map

    @property
    def final_map(self) -> Calibrator:
        """The final map on top of it."""
        return self.maps[0].final_map

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals that it can read."""
        return self.maps[0].signals

    @property
    def top_logprobs(self) -> int | None:
        """Alternatives a token that the samples have to come with; None: no log-probabilities."""
        return logprobs_for(name for name in self.signals if name != SegmentHistory.name)

    @property
    def asks(self) -> tuple[AskingSignal, ...]:
        """The signals that want a further question asked, about the leader's samples."""
        return asking(name for name in self.signals if name != SegmentHistory.name)

    def segment(self, question: Question) -> str | None:
        """Where the profile places the question; as stated only where it has no way to find it."""
        return question.segment if self.segmenter is None else self.segmenter.segment(question)

    def provenance(self, used: Sequence[str]) -> dict[str, Any]:
        """What a result says about where its probability comes from; ``used`` signals."""
        domain = ", ".join(self.datasets)
        return {"id": self.id, "version": self.version, "domain": domain, "signals": list(used)}

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
        if policy.stop != self.policy.stop:
            own = _short(str(self.policy.stop))
            return f"the profile was fitted at the stops of another policy: {own}"
        if not self.domain.accepts(question.text):
            return f"outside the profile's domain ({', '.join(self.datasets)})"
        return None

    def unfit(self, stop: StopReason, n: int, leader: int | None, lost: int = 0) -> str | None:
        """Why a prefix of ``n`` samples that ended by ``stop`` gets no probability; None: it may.

        A stop that the policy did not choose (a deadline, a spending cap, a failure) and a draw
        that was ``lost`` on the way select replies in a way that nothing was fitted for: long ones
        time out.
        """
        most = self.policy.stop.max_samples
        foreign = stop in {StopReason.DEADLINE, StopReason.ERROR}
        foreign |= stop is StopReason.SINGLE and most > 1
        if foreign or (stop is StopReason.BUDGET and n != most):
            return f"sampling was stopped by {stop.value}, not by the profile's policy"
        if lost:
            return f"{lost} draws were lost to failed calls, which are not a fair selection"
        if leader is None:
            return "no sample holds a readable answer"
        return None

    def state(
        self,
        evidence: Evidence,
        stop: StopReason,
        lost: int = 0,
        absent: Mapping[str, str] | None = None,
    ) -> Stated:
        """The probability that the leader is right, at the policy's own stop.

        It comes from the map that reads most of the signals that are there; ``missing`` names the
        others. That is right where a server cannot give them to any question. Evidence that came
        and cannot be read is another thing, as it marks the question: then there is no probability.
        ``absent``: why follow-ups were not answered, by signal, where that is known.
        """
        named = [self._signal(name) for name in self.signals]
        values, missing, unusable = readings(named, evidence)
        for name, why in (absent or {}).items():
            missing |= dict.fromkeys({name, f"leader_{name}"} & missing.keys(), why)
        reason = self.unfit(stop, evidence.n, evidence.leader, lost)
        known = {name: value for name, value in values.items() if value is not None}
        maps = next((one for one in self.maps if known.keys() >= set(one.signals)), None)
        if reason is None and unusable:
            name = next(name for name in missing if name in unusable)
            reason = f"{name} cannot be read, and what marks such questions is not known:"
            reason += f" {missing[name]}"
        if reason is None and maps is None:
            name, why = next(iter(missing.items()))
            reason = f"the profile needs {name}: {why}"
        if reason is not None or maps is None:
            return Stated(None, None, reason, values, missing)
        probability, interval = maps.probability(evidence.n, known)
        able = self.capability is not None and known.keys() >= set(self.capability.signals)
        return Stated(
            probability,
            interval,
            None,
            values,
            missing,
            used=maps.signals,
            capability=self.capability.posterior(evidence.n, known)
            if self.capability is not None and able
            else None,
        )

    def _signal(self, name: str) -> Signal:
        if name != SegmentHistory.name:
            return signal(name)
        if self.history is None:
            raise InputError("its maps read segment_history, and it holds none")
        return self.history

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, sealed."""
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
            "signals": [self._described(name) for name in self.signals],
            "maps": [one.state() for one in self.maps],
            "policy": {
                "stop": _rule_state(self.policy.stop, STOP_RULES),
                "exit": _rule_state(self.policy.exit, EXIT_RULES),
            },
            "capability": None if self.capability is None else self.capability.state(),
            "certificate": None if self.certificate is None else dict(self.certificate),
            "segments": None if self.segmenter is None else self.segmenter.state(),
            "data": dict(self.data),
            "held_out": dict(self.held_out),
            "considered": [dict(one) for one in self.considered],
            "note": self.note,
            "created": self.created,
        }
        return {**body, "sha256": _seal(body)}

    def _described(self, name: str) -> dict[str, Any]:
        """Name, version of the wording where one is asked, and fitted parameters."""
        described: dict[str, Any] = {"name": name}
        if name == SegmentHistory.name and self.history is not None:
            return described | {"params": self.history.state()}
        asked = asking([name])
        return described | {"version": asked[0].version} if asked else described

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file whole or not at all. Raises UsageError where it exists or cannot be."""
        refuse_existing(path, overwrite=overwrite)
        with whole(path) as stream:
            stream.write(_text(self.to_dict()).encode())


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
    if body["schema"] < SCHEMA:
        raise InputError(f"schema {body['schema']} is of an earlier Poise; fit it again", path)
    try:
        return _read(body)
    except InputError as error:
        raise InputError(error.problem, path) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not a profile ({type(error).__name__}: {error})", path) from None


def _read(sealed: Mapping[str, Any]) -> Profile:
    body = {name: value for name, value in sealed.items() if name != "sha256"}
    if sealed.get("sha256") != _seal(body):
        raise InputError("changed since it was written (SHA-256 differs); fit it again")
    check_content(body)
    domain, policy = body["domain"], body["policy"]
    capability, segments = body["capability"], body["segments"]
    listed = {one["name"]: one for one in body["signals"]}
    for name, one in listed.items():
        for asked in () if name == SegmentHistory.name else asking([name]):
            if one["version"] != asked.version:
                raise InputError(
                    f"fitted on another wording of {name} (version {one['version']}, and this Poise"
                    f" asks version {asked.version}); fit it again"
                )
    history = listed.get(SegmentHistory.name)
    maps = tuple(Maps.from_state(one) for one in body["maps"])
    if tuple(listed) != maps[0].signals or len(listed) < len(body["signals"]):
        raise InputError(f"it names the signals {', '.join(listed)}, and its maps read others")
    return Profile(
        id=body["id"],
        version=body["version"],
        parent=body["parent"],
        arm=body["arm"],
        kind=Kind(domain["kind"]),
        datasets=tuple(domain["datasets"]),
        domain=QuestionTest.from_state(domain["test"]),
        detection=domain["detection"],
        policy=Policy(
            _rule(policy["stop"], STOP_RULES),
            _rule(policy["exit"], EXIT_RULES),
        ),
        maps=maps,
        history=None if history is None else SegmentHistory.from_state(history["params"]),
        segmenter=None if segments is None else Segmenter.from_state(segments),
        capability=None if capability is None else Capability.from_state(capability),
        certificate=body["certificate"],
        data=body["data"],
        held_out=body["held_out"],
        considered=tuple(body["considered"]),
        note=body["note"],
        created=body["created"],
    )


def _rule_state(rule: object, table: Mapping[str, type[Any]]) -> dict[str, Any]:
    """A rule's name and parameters. Raises UsageError for one that the table does not have."""
    for name, kind in table.items():
        if kind is type(rule) and is_dataclass(rule):
            return {
                "name": name,
                "params": {one.name: getattr(rule, one.name) for one in fields(rule) if one.init},
            }
    raise UsageError(f"{rule}: a profile keeps rules by name, and this one has none")


def _rule(state: Mapping[str, Any], table: Mapping[str, type[Any]]) -> Any:
    if state["name"] not in table:
        raise InputError(f"there is no rule {state['name']!r}; this Poise may be too old")
    try:
        return table[state["name"]](**state["params"])
    except UsageError as error:
        raise InputError(f"policy: {error}") from None


def _is_plain(question: Question) -> bool:
    """One user turn of text; options only where they are what is chosen from."""
    only = question.messages[0]
    plain = only.get("role") == "user" and isinstance(only.get("content"), str)
    chosen_from = question.options is None or question.kind is Kind.CHOICE
    return len(question.messages) == 1 and plain and chosen_from


def _text(body: Mapping[str, Any]) -> str:
    """JSON with a line for each top-level name: short, and still to be looked into."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"
        for name, value in body.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _seal(body: Mapping[str, Any]) -> str:
    plain = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return hashlib.sha256(plain.encode()).hexdigest()
    except UnicodeEncodeError:
        raise InputError("half of a surrogate pair is not text: a profile cannot hold it") from None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
