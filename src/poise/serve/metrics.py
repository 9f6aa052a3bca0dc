"""What the gateway counts, as Prometheus metrics in base units, in a registry of its own.

Labels are few and bounded: alias and upstream names as the configuration has them (``unknown``
otherwise), outcomes, modes and error classes from lists in the code. Never the name of a key, a
prompt, an answer or an id. On the hot path everything has been looked up before: ``of(alias)``
hands out an object whose children are made once.

Several workers each expose their own numbers, unless ``directory`` names prometheus_client's
multiprocess directory: then one scrape of any worker gives the sums over all. The directory must
be the value of ``PROMETHEUS_MULTIPROC_DIR`` in each worker's environment *before* this module is
imported (the client decides at import), emptied when the parent starts; a worker that ends calls
``close``. In that mode one process holds one ``Metrics``, and a replaced profile shows as 0
instead of going away.

It does not know: HTTP, the configuration, what a result means.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from poise.errors import BackendError, UsageError
from poise.types import Result, Spend, StopReason

__all__ = ["UNKNOWN", "AliasMetrics", "Metrics", "Mode", "UpstreamMetrics"]

Mode = Literal["live", "shadow", "audit"]
"""Why a question was worked on: to be answered, to see what would have been, to check a policy."""

UNKNOWN = "unknown"
"""The label of every alias or upstream that the configuration does not name."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SAMPLES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)
PROBABILITY = tuple(round(0.05 * step, 2) for step in range(1, 21))

TOKENS = ("prompt", "completion", "cached", "reasoning", "cancelled")


class _Children(dict[str | int, Callable[..., None]]):
    """``inc`` of one counter's children by the value of its last label; made when first met."""

    def __init__(self, counter: Counter, *before: str, known: Iterable[str | int] = ()):
        super().__init__()
        self._counter, self._before = counter, before
        for value in known:
            self[value]  # a series that starts at 0 is one whose first event counts in a rate

    def __missing__(self, value: str | int) -> Callable[..., None]:
        self[value] = made = self._counter.labels(*self._before, value).inc
        return made


class AliasMetrics:
    """The numbers of one alias; ``Metrics.of`` gives it."""

    def __init__(self, of: Metrics, alias: str):
        self._requests = _Children(of.requests, alias, known=(200,))
        self._seconds = of.request_seconds.labels(alias).observe
        self._samples = of.samples.labels(alias).inc
        self._per_question = of.samples_per_question.labels(alias).observe
        self._stops = _Children(of.stops, alias, known=[stop.value for stop in StopReason])
        self._decisions = _Children(of.decisions, alias, known=("answer", "abstain"))
        self._probability = of.probability.labels(alias).observe
        calibrated = _Children(of.calibrated, alias)
        self._calibrated = {True: calibrated["true"], False: calibrated["false"]}
        tokens = _Children(of.spend_tokens, alias)
        self._tokens = tuple((f"{kind}_tokens", tokens[kind]) for kind in TOKENS)
        self._usd = of.spend_usd.labels(alias).inc
        self._uncounted = of.spend_uncounted.labels(alias).inc
        self._calls = of.calls.labels(alias).inc
        self._questions = _Children(of.questions, alias, known=("live",))
        self._outcomes = _Children(of.outcomes, alias)

    def answered(
        self, result: Result, seconds: float, status: int = 200, mode: Mode = "live"
    ) -> None:
        """A request was replied to with ``result``, ``seconds`` after it came in.

        ``mode`` shadow: the reply is a plain sample, so only the request and its spend count here,
        and ``behind`` tells what was decided in its shadow.
        """
        self.requested(status, seconds)
        if mode == "live":
            self._questions["live"]()
            self._judged(result)
        self.spent(result.spend)

    def behind(self, mode: Mode, spend: Spend, result: Result | None = None) -> None:
        """A question was worked on behind the reply, for ``spend``.

        ``result``: what was decided in the shadow; an audit has none, for it draws to the cap
        whatever the policy says.
        """
        self._questions[mode]()
        if result is not None:
            self._judged(result)
        self.spent(spend)

    def requested(self, status: int, seconds: float) -> None:
        """A request ended with this HTTP status (499: the client went away), with no result."""
        self._requests[status]()
        self._seconds(seconds)

    def spent(self, spend: Spend) -> None:
        """What was used; a count that is not known is left out and the omission is counted."""
        if spend.calls:
            self._calls(spend.calls)
        if spend.samples:
            self._samples(spend.samples)
        known = True
        for name, add in self._tokens:
            count = getattr(spend, name)
            if count:
                add(count)
            elif count is None:
                known = False
        if not known:
            self._uncounted()
        if spend.usd:
            self._usd(spend.usd)

    def outcome(self, status: str) -> None:
        """A late truth came in and was ``stored``, ``unchanged``, ``replaced`` or ``unknown``."""
        self._outcomes[status]()

    def _judged(self, result: Result) -> None:
        self._per_question(len(result.samples))
        self._stops[result.stop]()
        self._decisions[result.decision]()
        self._calibrated[result.calibrated]()
        if result.probability is not None:
            self._probability(result.probability)


class UpstreamMetrics:
    """The numbers of one upstream; ``Metrics.upstream`` gives it."""

    def __init__(self, of: Metrics, upstream: str):
        self._seconds = of.upstream_seconds.labels(upstream).observe
        self._errors = _Children(of.upstream_errors, upstream)
        self._up = of.upstream_up.labels(upstream).set

    def called(self, seconds: float) -> None:
        """A call ended well after ``seconds``."""
        self._seconds(seconds)

    def failed(self, error: BaseException) -> None:
        """A call failed; the class of a back-end's error is the label, any other is ``Other``."""
        self._errors[type(error).__name__ if isinstance(error, BackendError) else "Other"]()

    def up(self, up: bool) -> None:  # noqa: FBT001 - a state
        """Whether the upstream is being asked; False while its breaker is open."""
        self._up(1 if up else 0)


class Metrics:
    """All metrics of one gateway.

    ``aliases`` and ``upstreams``: the names that may become labels. ``directory``: see the module;
    UsageError when the client was not told of it in time.
    """

    def __init__(
        self,
        aliases: Iterable[str],
        upstreams: Iterable[str] = (),
        *,
        version: str = "",
        directory: str | Path | None = None,
    ):
        if directory is not None and not getattr(values.ValueClass, "_multiprocess", False):
            raise UsageError(
                f"metrics cannot be shared in {directory}: PROMETHEUS_MULTIPROC_DIR was not set "
                "when the worker started; set it for the whole process, or do without"
            )
        self.registry = CollectorRegistry()
        self._directory = None if directory is None else str(directory)
        self._requests()
        self._questions()
        self._spend()
        self._upstreams()
        self._state(version)
        # Every child before the first request: the hot path then only looks up.
        self._of = {alias: AliasMetrics(self, alias) for alias in (*aliases, UNKNOWN)}
        self._upstream = {name: UpstreamMetrics(self, name) for name in (*upstreams, UNKNOWN)}
        self._profiles: dict[str, tuple[str, str]] = {}
        recorded = _Children(self.records)
        self._recorded = {True: recorded["true"], False: recorded["false"]}

    def of(self, alias: str) -> AliasMetrics:
        """The numbers of one alias; a name the configuration lacks counts as ``unknown``."""
        return self._of.get(alias) or self._of[UNKNOWN]

    def upstream(self, name: str) -> UpstreamMetrics:
        """The numbers of one upstream; a name the configuration lacks counts as ``unknown``."""
        return self._upstream.get(name) or self._upstream[UNKNOWN]

    def recorded(self, durable: bool) -> None:  # noqa: FBT001 - the label's value
        """A decision was replied to, durably recorded by then or not."""
        self._recorded[durable]()

    def profile(self, alias: str, profile: str | None, version: int | str = "") -> None:
        """``alias`` answers with this profile from now on; None: with none."""
        if alias not in self._of:
            return
        new = None if profile is None else (profile, str(version))
        old = self._profiles.get(alias)
        if old is not None and old != new:
            del self._profiles[alias]
            if self._directory is None:
                self.profile_info.remove(alias, *old)
            else:
                self.profile_info.labels(alias, *old).set(0)
        if new is not None:
            self._profiles[alias] = new
            self.profile_info.labels(alias, *new).set(1)

    def exposition(self, accept: str | None = None) -> tuple[bytes, str]:
        """What /metrics answers, and its content type.

        ``accept``: the request's Accept header; OpenMetrics where it is asked for, else the
        Prometheus text format 0.0.4.
        """
        registry = self.registry
        if self._directory is not None:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=self._directory)  # type: ignore[no-untyped-call]
        # Nothing of the header is echoed: the client's own reader of it trusts what it says.
        if accept is not None and "application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def close(self) -> None:
        """Take this worker's gauges out of the shared directory, if there is one."""
        if self._directory is not None:
            multiprocess.mark_process_dead(os.getpid(), self._directory)  # type: ignore[no-untyped-call]

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"poise_{name}", says, labels, registry=self.registry)

    def _histogram(
        self, name: str, says: str, *labels: str, buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"poise_{name}", says, labels, registry=self.registry, buckets=buckets)

    def _gauge(
        self, name: str, says: str, *labels: str, over: Literal["livesum", "livemin", "livemax"]
    ) -> Gauge:
        """``over``: how the values of several workers become one."""
        return Gauge(f"poise_{name}", says, labels, registry=self.registry, multiprocess_mode=over)

    def _requests(self) -> None:
        self.requests = self._counter(
            "requests_total", "Requests by HTTP status (499: the client left).", "alias", "status"
        )
        self.request_seconds = self._histogram(
            "request_seconds", "Time from request to reply.", "alias", buckets=SECONDS
        )
        self.in_flight = self._gauge("in_flight", "Requests being worked on.", over="livesum")
        self.queued = self._gauge("queued", "Requests waiting for room.", over="livesum")

    def _questions(self) -> None:
        self.questions = self._counter(
            "questions_total",
            "Questions worked on: live, in the shadow of a plain reply, or to audit a policy.",
            *("alias", "mode"),
        )
        self.samples_per_question = self._histogram(
            "samples_per_question", "Samples decided on (audits aside).", "alias", buckets=SAMPLES
        )
        self.stops = self._counter(
            "stops_total", "Why sampling ended (audits aside).", "alias", "stop"
        )
        self.decisions = self._counter(
            "decisions_total", "Answered or withheld (audits aside).", "alias", "decision"
        )
        self.calibrated = self._counter(
            "calibrated_total",
            "Questions by whether a probability was claimed.",
            *("alias", "calibrated"),
        )
        self.probability = self._histogram(
            "probability", "The probabilities claimed.", "alias", buckets=PROBABILITY
        )
        self.records = self._counter(
            "records_total",
            "Decisions by whether the record was durable before the reply.",
            "recorded",
        )
        self.outcomes = self._counter(
            "outcomes_total", "Late truths that came in.", "alias", "status"
        )

    def _spend(self) -> None:
        self.samples = self._counter("samples_total", "Samples drawn.", "alias")
        self.calls = self._counter("calls_total", "Calls to models.", "alias")
        self.spend_tokens = self._counter(
            "spend_tokens_total",
            "Tokens used. cached is part of prompt; reasoning and cancelled are of completion.",
            *("alias", "kind"),
        )
        self.spend_usd = self._counter(
            "spend_usd_total", "US dollars, where the model has a price.", "alias"
        )
        self.spend_uncounted = self._counter(
            "spend_uncounted_total", "Questions with a token count that is not known.", "alias"
        )

    def _upstreams(self) -> None:
        self.upstream_seconds = self._histogram(
            "upstream_seconds", "Time of calls that ended well.", "upstream", buckets=SECONDS
        )
        self.upstream_errors = self._counter(
            "upstream_errors_total", "Calls that failed, by error.", "upstream", "error"
        )
        self.upstream_up = self._gauge(
            "upstream_up",
            "1 while the upstream is asked, 0 while it is left alone.",
            "upstream",
            over="livemin",
        )

    def _state(self, version: str) -> None:
        self.profile_info = self._gauge(
            "profile_info",
            "1 for the profile that makes the alias's probabilities.",
            *("alias", "profile", "version"),
            over="livemax",
        )
        build = self._gauge(
            "build_info", "1, with the versions that run.", "version", "python", over="livemax"
        )
        build.labels(version, platform.python_version()).set(1)
