"""The metrics in Prometheus' words. The only module that needs `prometheus_client`: loaded when they are served."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from services.health.metrics import metrics_of
from services.health.shown import KINDS, is_snoozed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import Metric

    from services.health.entry import Entry
    from services.health.metrics import Counters
    from services.health.model import Kind
    from trivet.health.v1 import health_pb2

_NAMES = {number: kind.value for kind, number in KINDS.items()}
_LABELS = ("kind", "type")
_CHECK_LABELS = ("framework", "executor", "task", "kind")
_P = "trivet_health"


@dataclass(frozen=True, slots=True)
class Single:
    """What is told of each check alone."""

    labels: tuple[str, str, str, str]
    failures: int
    successes: int
    snoozed: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is told, at one moment: it may be worded in another thread."""

    metrics: Sequence[health_pb2.CheckMetrics]
    singles: Sequence[Single]


def snapshot(counters: Counters, entries: Iterable[Entry], now: float) -> Snapshot:
    """Takes it.

    Args:
        counters: What was counted.
        entries: All tasks.
        now: CLOCK_BOOTTIME, seconds.
    """
    entries = list(entries)
    newest: dict[tuple[str, str, str], Entry] = {}
    # An id that is used again is one time series.
    for entry in sorted(entries, key=lambda entry: (entry.session is not None, entry.key.launch)):
        executor = entry.key.executor
        newest[executor.framework_id, executor.executor_id, entry.key.task_id] = entry
    singles = [_single((*key, kind.value), entry, kind, now) for key, entry in newest.items() for kind in entry.checked]
    return Snapshot(metrics_of(counters, entries, now), singles)


def _single(labels: tuple[str, str, str, str], entry: Entry, kind: Kind, now: float) -> Single:
    check = entry.check(kind)
    return Single(labels, check.rule.failures, check.rule.successes, is_snoozed(check, now))


class _Told(Collector):
    def __init__(self, taken: Snapshot) -> None:
        self._taken = taken

    def collect(self) -> Iterator[Metric]:
        yield from _counted(self._taken.metrics)
        yield from _now(self._taken.metrics)
        yield from _each(self._taken.singles)


def _counted(metrics: Sequence[health_pb2.CheckMetrics]) -> Iterator[Metric]:
    probes = CounterMetricFamily(f"{_P}_probes", "Probes that were begun.", labels=_LABELS)
    results = CounterMetricFamily(
        f"{_P}_probe_results", "Probes that are over, by what they count as.", labels=(*_LABELS, "result")
    )
    latency = HistogramMetricFamily(
        f"{_P}_probe_duration_seconds", "Time that probes took, those that count alone.", labels=_LABELS
    )
    for each in metrics:
        labels = _labels(each)
        probes.add_metric(labels, each.probes)
        outcomes = {
            "success": each.successes,
            "failure": each.failures,
            "transient": each.transients,
            "snoozed": each.snoozes,
        }
        for result, count in outcomes.items():
            results.add_metric((*labels, result), count)
        buckets = [(_bound(bucket.up_to_secs), float(bucket.count)) for bucket in each.latency]
        latency.add_metric(labels, buckets, each.latency_sum_secs)
    yield from (probes, results, latency)


def _now(metrics: Sequence[health_pb2.CheckMetrics]) -> Iterator[Metric]:
    checks = GaugeMetricFamily(f"{_P}_checks", "Checks in the books.", labels=_LABELS)
    snoozed = GaugeMetricFamily(f"{_P}_checks_snoozed", "Checks that are snoozed now.", labels=_LABELS)
    probing = GaugeMetricFamily(f"{_P}_checks_probing", "Checks whose probe is under way.", labels=_LABELS)
    failures = GaugeMetricFamily(
        f"{_P}_most_consecutive_failures", "Longest row of failures of any check now.", labels=_LABELS
    )
    successes = GaugeMetricFamily(
        f"{_P}_most_consecutive_successes", "Longest row of successes of any check now.", labels=_LABELS
    )
    for each in metrics:
        labels = _labels(each)
        checks.add_metric(labels, each.checks)
        snoozed.add_metric(labels, each.snoozed)
        probing.add_metric(labels, each.probing)
        failures.add_metric(labels, each.most_consecutive_failures)
        successes.add_metric(labels, each.most_consecutive_successes)
    yield from (checks, snoozed, probing, failures, successes)


def _each(singles: Sequence[Single]) -> Iterator[Metric]:
    failures = GaugeMetricFamily(
        f"{_P}_check_consecutive_failures", "Failures in a row, up to now.", labels=_CHECK_LABELS
    )
    successes = GaugeMetricFamily(
        f"{_P}_check_consecutive_successes", "Successes in a row, up to now.", labels=_CHECK_LABELS
    )
    snoozed = GaugeMetricFamily(f"{_P}_check_snoozed", "1: nothing is probed, on purpose.", labels=_CHECK_LABELS)
    for each in singles:
        failures.add_metric(each.labels, each.failures)
        successes.add_metric(each.labels, each.successes)
        snoozed.add_metric(each.labels, each.snoozed)
    yield from (failures, successes, snoozed)


def _bound(secs: float) -> str:
    return "+Inf" if math.isinf(secs) else repr(secs)


def _labels(metrics: health_pb2.CheckMetrics) -> tuple[str, str]:
    return _NAMES[metrics.kind], metrics.type


def render(taken: Snapshot, accept: str) -> tuple[bytes, str]:
    """The page.

    Args:
        taken: What to tell.
        accept: The request's Accept header: OpenMetrics, else the plain text format.

    Returns:
        The text, and its Content-Type.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(taken))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
