"""What the service counts, by kind and type of check. Pure; begins at 0 with every process."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

from services.health.interpret import Meaning
from services.health.model import Kind
from services.health.shown import KINDS, is_snoozed
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.health.entry import Entry
    from services.health.model import Noted
    from services.health.spec import Spec

# Upper ends of the histogram's buckets, inclusive, seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, inf)

Label = tuple[Kind, str]
"""Kind and type of checks that are counted together."""


@dataclass(slots=True)
class Counts:
    """Of all checks of one kind and type."""

    probes: int = 0
    """That were begun."""
    results: dict[Meaning, int] = field(default_factory=lambda: dict.fromkeys(Meaning, 0))
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    """Counted results by latency, not cumulative."""
    latency_sum: float = 0.0
    """Seconds."""


class Counters:
    """See `services.health.entry.Observer`."""

    def __init__(self) -> None:
        self._counts: dict[Label, Counts] = {}

    @property
    def counts(self) -> Mapping[Label, Counts]:
        """All kinds and types that have been probed."""
        return self._counts

    def probed(self, spec: Spec) -> None:
        """An attempt is begun."""
        self._of(spec).probes += 1

    def noted(self, spec: Spec, noted: Noted) -> None:
        """An attempt is over. Only the latency of what counts is of interest: a driver that is away answers nothing."""
        counts = self._of(spec)
        counts.results[noted.reading.meaning] += 1
        if noted.reading.counts:
            counts.buckets[bisect_left(BOUNDS, noted.latency)] += 1
            counts.latency_sum += noted.latency

    def _of(self, spec: Spec) -> Counts:
        label = spec.kind, spec.type
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = Counts()
        return counts


def metrics_of(counters: Counters, entries: Iterable[Entry], now: float) -> list[health_pb2.CheckMetrics]:
    """Counters, and what holds of the checks in the books, sorted by kind and type.

    Args:
        counters: What was counted.
        entries: All tasks.
        now: CLOCK_BOOTTIME, seconds.
    """
    found = {label: _metrics(label, counts) for label, counts in counters.counts.items()}
    for entry in entries:
        for kind, checked in entry.checked.items():
            label = kind, checked.spec.type
            metrics = found.get(label)
            if metrics is None:
                metrics = found[label] = _metrics(label, Counts())
            check = entry.check(kind)
            metrics.checks += 1
            metrics.snoozed += is_snoozed(check, now)
            metrics.probing += check.flight is not None
            metrics.most_consecutive_failures = max(metrics.most_consecutive_failures, check.rule.failures)
            metrics.most_consecutive_successes = max(metrics.most_consecutive_successes, check.rule.successes)
    return sorted(found.values(), key=lambda metrics: (metrics.kind, metrics.type))


def _metrics(label: Label, counts: Counts) -> health_pb2.CheckMetrics:
    kind, type_ = label
    buckets = zip(BOUNDS, accumulate(counts.buckets), strict=True)
    return health_pb2.CheckMetrics(
        kind=KINDS[kind],
        type=type_,
        probes=counts.probes,
        successes=counts.results[Meaning.SUCCESS],
        failures=counts.results[Meaning.FAILURE],
        transients=counts.results[Meaning.TRANSIENT],
        snoozes=counts.results[Meaning.SNOOZED],
        latency=[health_pb2.LatencyBucket(up_to_secs=bound, count=count) for bound, count in buckets],
        latency_sum_secs=counts.latency_sum,
    )
