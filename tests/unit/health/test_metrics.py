"""What the service counts, and how Prometheus is told."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from services.common.keys import Executor
from services.health import prometheus
from services.health.interpret import Meaning, Reading
from services.health.metrics import BOUNDS, Counters, metrics_of
from services.health.metrics_server import Address, address
from services.health.model import Kind, Noted
from services.health.spec import specs_of_info
from tests.unit.health.tasks import hello, task_info
from tests.unit.health.world import DriverDouble, World
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from services.health.metrics import Label
    from services.health.spec import Spec

CHECKERS: dict[str, dict[str, Any]] = {
    "http": {"http": {"port": 1}},
    "https": {"http": {"port": 1, "scheme": "https"}},
    "tcp": {"tcp": {"port": 1}},
    "command": {"shell": {"shell_command": "true"}},
}
SPECS = {
    name: specs_of_info(task_info({"health_checker": each}), hello(), "time")[0] for name, each in CHECKERS.items()
}


def noted(meaning: Meaning, latency: float = 0.01) -> Noted:
    return Noted(Reading(meaning, "HTTP health check"), latency)


def only(counters: Counters) -> pb.CheckMetrics:
    (metrics,) = metrics_of(counters, (), 0.0)
    return metrics


@pytest.mark.parametrize("name", SPECS)
def test_attempts_are_counted_by_type_and_outcome(name: str) -> None:
    counters = Counters()
    for _ in range(6):
        counters.probed(SPECS[name])
    for meaning, times in zip(Meaning, (4, 3, 2, 1), strict=True):
        for _ in range(times):
            counters.noted(SPECS[name], noted(meaning))
    metrics = only(counters)
    assert (metrics.kind, metrics.type) == (pb.CHECK_KIND_HEALTH, name)
    counts = (metrics.probes, metrics.successes, metrics.failures, metrics.transients, metrics.snoozes)
    assert counts == (6, 4, 3, 2, 1)
    assert (metrics.checks, metrics.snoozed, metrics.probing) == (0, 0, 0)


@pytest.mark.parametrize(
    ("latency", "bound"),
    [(0.0, 0.001), (0.001, 0.001), (0.0010001, 0.0025), (0.25, 0.25), (59.9, 60.0), (60.0, 60.0), (60.1, math.inf)],
)
def test_a_bucket_holds_what_took_no_longer_than_its_end(latency: float, bound: float) -> None:
    counters = Counters()
    counters.noted(SPECS["http"], noted(Meaning.SUCCESS, latency))
    buckets = only(counters).latency
    assert [bucket.up_to_secs for bucket in buckets] == list(BOUNDS)
    assert min(bucket.up_to_secs for bucket in buckets if bucket.count) == bound
    assert buckets[-1].count == 1


results = st.lists(
    st.tuples(st.sampled_from(sorted(SPECS)), st.sampled_from(list(Meaning)), st.floats(0, 120, allow_nan=False))
)


@given(results)
def test_the_histogram_is_that_of_all_counted_results(made: list[tuple[str, Meaning, float]]) -> None:
    counters = Counters()
    for name, meaning, latency in made:
        counters.noted(SPECS[name], noted(meaning, latency))
    found = metrics_of(counters, (), 0.0)
    assert [metrics.type for metrics in found] == sorted({name for name, _, _ in made})
    for metrics in found:
        took = [
            latency
            for name, meaning, latency in made
            if name == metrics.type and meaning in (Meaning.SUCCESS, Meaning.FAILURE)
        ]
        expected = [sum(latency <= bound for latency in took) for bound in BOUNDS]
        assert [bucket.count for bucket in metrics.latency] == expected
        assert metrics.latency_sum_secs == pytest.approx(sum(took))
        assert metrics.latency[-1].count == metrics.successes + metrics.failures


class Counted(World):
    """A world whose book is counted."""

    def __init__(self, path: Any) -> None:
        self.counters = Counters()
        super().__init__(path)

    def probed(self, spec: Spec, /) -> None:
        self.counters.probed(spec)

    def noted(self, spec: Spec, noted: Noted, /) -> None:
        self.counters.noted(spec, noted)

    def metrics(self) -> dict[Label, pb.CheckMetrics]:
        kinds = {pb.CHECK_KIND_HEALTH: Kind.HEALTH, pb.CHECK_KIND_CHECK: Kind.CHECK}
        found = metrics_of(self.counters, self.book.entries(), self.now)
        return {(kinds[metrics.kind], metrics.type): metrics for metrics in found}

    def page(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What Prometheus reads."""
        body, _ = prometheus.render(prometheus.snapshot(self.counters, self.book.entries(), self.now), "")
        samples = [each for family in text_string_to_metric_families(body.decode()) for each in family.samples]
        page = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
        assert len(page) == len(samples), "a series is told twice"
        return page


@pytest.fixture(name="counted")
def make_counted(tmp_path: Any) -> Counted:
    return Counted(tmp_path)


def failing(tolerated: int = 100) -> bytes:
    config = {"max_consecutive_failures": tolerated, "interval_secs": 10, "health_checker": CHECKERS["http"]}
    return task_info(config)


def probe_of(heard: list[pb.AttachResponse]) -> pb.Probe:
    return [message.probe for message in heard if message.HasField("probe")][-1]


def test_what_is_in_the_books_is_counted_now(counted: Counted) -> None:
    driver = DriverDouble(counted)
    driver.attach()
    for task in ("a", "b", "c"):
        probe = probe_of(driver.launch(failing(), task))
        driver.answer(probe, b"ok" if task == "a" else b"bad")
    label = Kind.HEALTH, "http"
    metrics = counted.metrics()[label]
    assert (metrics.checks, metrics.probes, metrics.successes, metrics.failures) == (3, 3, 1, 2)
    assert (metrics.snoozed, metrics.probing) == (0, 0)
    assert (metrics.most_consecutive_failures, metrics.most_consecutive_successes) == (1, 1)
    counted.run(10)
    assert counted.metrics()[label].probing == 3
    for entry in counted.book.entries():
        if entry.key.task_id == "b":
            counted.book.snooze(entry, 60)
    metrics = counted.metrics()[label]
    assert (metrics.snoozed, metrics.probing, metrics.probes) == (1, 2, 6)
    driver.detach()
    metrics = counted.metrics()[label]
    # The two that were under way could not be made; the one that was snoozed away is nobody's.
    assert (metrics.transients, metrics.probing) == (2, 0)


def test_prometheus_reads_every_number(counted: Counted) -> None:
    driver = DriverDouble(counted)
    driver.attach()
    probe = probe_of(driver.launch(failing(), "t"))
    counted.now += 0.2
    driver.answer(probe, b"bad", latency_secs=0.2)
    page = counted.page()
    labels = frozenset({("kind", "health"), ("type", "http")})
    each = frozenset({("framework", "f"), ("executor", "e"), ("task", "t"), ("kind", "health")})
    p = "trivet_health_"
    assert page[p + "probes_total", labels] == 1
    assert page[p + "probe_results_total", labels | {("result", "failure")}] == 1
    assert page[p + "probe_results_total", labels | {("result", "success")}] == 0
    assert page[p + "probe_duration_seconds_count", labels] == 1
    assert page[p + "probe_duration_seconds_sum", labels] == pytest.approx(0.2)
    assert page[p + "probe_duration_seconds_bucket", labels | {("le", "0.1")}] == 0
    assert page[p + "probe_duration_seconds_bucket", labels | {("le", "0.25")}] == 1
    assert page[p + "probe_duration_seconds_bucket", labels | {("le", "+Inf")}] == 1
    assert page[p + "checks", labels] == 1
    assert page[p + "checks_probing", labels] == 0
    assert page[p + "checks_snoozed", labels] == 0
    assert page[p + "most_consecutive_failures", labels] == 1
    assert page[p + "check_consecutive_failures", each] == 1
    assert page[p + "check_consecutive_successes", each] == 0
    assert page[p + "check_snoozed", each] == 0
    (entry,) = counted.book.entries()
    counted.book.snooze(entry, 60)
    assert counted.page()[p + "check_snoozed", each] == 1
    counted.run(61)
    assert counted.page()[p + "check_snoozed", each] == 0


def labels_of(executor: str) -> frozenset[tuple[str, str]]:
    return frozenset({("framework", "f"), ("executor", executor), ("task", "t"), ("kind", "health")})


def test_an_id_that_is_used_again_is_one_series_that_of_the_newer(counted: Counted) -> None:
    for incarnation, body in (("old", b"bad"), ("new", b"ok")):
        driver = DriverDouble(counted, Executor("f", "e", incarnation))
        driver.attach()
        driver.answer(probe_of(driver.launch(failing(), "t")), body)
    other = DriverDouble(counted, Executor("f", "other", "i"))
    other.attach()
    other.launch(failing(), "t")
    page = counted.page()
    rows = {dict(labels)["executor"]: value for (name, labels), value in page.items() if "check_consecutive_f" in name}
    assert rows == {"e": 0, "other": 0}
    assert page["trivet_health_checks", frozenset({("kind", "health"), ("type", "http")})] == 3
    # The other one of the two is the one that is there.
    driver.detach()
    assert counted.page()["trivet_health_check_consecutive_failures", labels_of("e")] == 1


@given(st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_hostile_ids_stay_inside_their_label(task: str) -> None:
    single = prometheus.Single(("f", "e", task, "health"), 2, 0, snoozed=False)
    body, content_type = prometheus.render(prometheus.Snapshot((), (single,)), "")
    assert content_type.startswith("text/plain")
    lines = [line for line in body.decode().split("\n") if line.startswith("trivet_health_check_consecutive_failures{")]
    assert len(lines) == 1
    assert lines[0].endswith("} 2.0")
    escaped = task.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    assert f'task="{escaped}"' in lines[0]


def test_who_asks_for_openmetrics_gets_it() -> None:
    body, content_type = prometheus.render(
        prometheus.Snapshot((), ()), "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    )
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("text", "where"),
    [("127.0.0.1:9100", Address("127.0.0.1", 9100)), ("127.1.2.3:0", Address("127.1.2.3", 0)),
     ("[::1]:65535", Address("::1", 65535))],
)  # fmt: skip
def test_metrics_are_served_on_the_loopback(text: str, where: Address) -> None:
    assert address(text) == where
    assert str(where) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [("0.0.0.0:9100", "only this host's loopback"), ("10.0.0.1:9100", "only this host's loopback"),
     ("[::]:9100", "only this host's loopback"), ("[fe80::1]:1", "only this host's loopback"),
     ("127.0.0.1:65536", "at most 65535"), ("127.0.0.1", "is not an address"), ("9100", "is not an address"),
     ("localhost:9100", "is not an address"), ("127.0.0.1:-1", "is not an address"),
     ("999.0.0.1:1", "is not an address"), ("::1:9100", "is not an address"), ("", "is not an address")],
)  # fmt: skip
def test_no_other_address_is_taken(text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        address(text)
