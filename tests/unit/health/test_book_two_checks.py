"""The book with tasks that have Mesos' own checks: one verdict, its memory, snoozes, results."""

from __future__ import annotations

import os

import pytest

from mesos.v1 import mesos_pb2
from services.health import shown
from services.health.model import Kind
from tests.unit.health.tasks import task_info, with_checks
from tests.unit.health.world import CHECKED, DriverDouble, World, kinds
from trivet.health.v1 import health_pb2 as pb

HTTP = mesos_pb2.CheckInfo(type=mesos_pb2.CheckInfo.HTTP, delay_seconds=0, interval_seconds=10)
HTTP.http.port = 80
BOTH = with_checks(CHECKED, check=HTTP)
MESOS = mesos_pb2.HealthCheck(
    type=mesos_pb2.HealthCheck.HTTP, delay_seconds=0, interval_seconds=10, grace_period_seconds=0
)
MESOS.http.port = 80


def of_kind(heard: list[pb.AttachResponse], kind: pb.CheckKind) -> pb.Probe:
    (probe,) = (message.probe for message in heard if message.probe.check == kind and message.HasField("probe"))
    return probe


def lose_journals(world: World) -> None:
    for name in os.listdir(world.path / "checks"):
        os.unlink(world.path / "checks" / name)


def test_two_probes_two_answers_one_verdict(driver: DriverDouble) -> None:
    heard = driver.launch(BOTH)
    assert kinds(heard) == ["probe", "probe"]
    (first,) = driver.answer(of_kind(heard, pb.CHECK_KIND_CHECK), http_status=404)
    assert (first.verdict.passed, first.verdict.check_result.http_status) == (False, 404)
    (second,) = driver.answer(of_kind(heard, pb.CHECK_KIND_HEALTH))
    assert second.verdict.version > first.verdict.version
    assert (second.verdict.passed, second.verdict.healthy) == (True, True)
    assert (second.verdict.check_result.changes, second.verdict.check_result.http_status) == (1, 404)
    driver.world.start()
    (again,) = driver.attach()
    assert again.verdict == second.verdict


def test_a_lost_journal_goes_on_with_reports_and_changes(driver: DriverDouble) -> None:
    info = with_checks(task_info(), MESOS, HTTP)
    heard = driver.launch(info)
    driver.world.run(1)
    driver.answer(of_kind(heard, pb.CHECK_KIND_HEALTH), b"", http_status=503)
    driver.answer(of_kind(heard, pb.CHECK_KIND_CHECK), http_status=404)
    before = driver.verdicts[driver.key()]
    assert (before.health_reports, before.healthy, before.passed) == (1, False, True)
    lose_journals(driver.world)
    driver.world.start()
    driver.attach()
    after = driver.verdicts[driver.key()]
    assert after.version > before.version
    after.version = before.version
    assert after == before
    # The next failure is the second one.
    driver.world.run(11)
    heard = driver.listen()
    (verdict,) = driver.answer(of_kind(heard, pb.CHECK_KIND_HEALTH), b"", http_status=503)
    assert (verdict.verdict.consecutive_failures, verdict.verdict.health_reports) == (2, 2)


@pytest.mark.parametrize("gated", [False, True])
def test_a_mesos_check_gates_where_the_label_says_so(driver: DriverDouble, *, gated: bool) -> None:
    info = with_checks(task_info(), MESOS, trivet_health_gated=str(gated).lower())
    heard = driver.launch(info, started=False)
    assert [message.verdict.passed for message in heard] == [] if gated else [True]


def test_results_are_kept_told_and_outlive_the_service(driver: DriverDouble) -> None:
    heard = driver.launch(BOTH)
    driver.answer(of_kind(heard, pb.CHECK_KIND_HEALTH), b"sorry")
    driver.answer(of_kind(heard, pb.CHECK_KIND_CHECK))
    assert len(driver.world.observed) == 2
    for _ in range(2):
        (entry,) = driver.world.book.entries()
        health, check = (shown.results_of(entry.histories[kind]) for kind in Kind)
        assert [(result.success, result.at) for result in health] == [(False, driver.world.wall)]
        assert [(result.success, result.detail) for result in check] == [(True, "HTTP check: status 200")]
        driver.world.start()


def test_a_snooze_is_seen_outlives_the_service_and_a_step_of_the_wall_clock(driver: DriverDouble) -> None:
    driver.answer(driver.launch()[0].probe)
    world = driver.world
    (entry,) = world.book.entries()
    seen = world.book.snooze(entry, 600)
    assert (seen.snoozed, seen.snoozed_for_secs, seen.next_probe_secs) == (True, 600, 600)
    world.wall -= 86400
    world.run(100)
    world.start()
    driver.attach()
    (seen,) = world.book.shown()
    assert (seen.snoozed_for_secs, seen.unprobed_secs) == (500, 100)
    world.run(499)
    assert driver.listen() == []
    world.run(2)
    assert kinds(driver.listen()) == ["probe"]


def test_a_result_of_a_check_that_the_task_has_not_changes_nothing(driver: DriverDouble) -> None:
    (probe,) = driver.launch()
    before = driver.world.book.shown()
    for kind in (pb.CHECK_KIND_CHECK, 77):
        assert driver.answer(probe.probe, check=kind) == []
    assert driver.world.book.shown() == before
    assert driver.session is not None
    assert driver.session.alive


def test_a_timer_that_comes_a_little_early_comes_again(driver: DriverDouble) -> None:
    world = driver.world
    driver.answer(driver.launch()[0].probe)
    # Its clock is not the one that the schedule is made from.
    world.now += 9.5
    early = [call for call in world.calls if not call[2].cancelled and call[0] == 5010.0]
    world.calls = [call for call in world.calls if call not in early]
    for *_, callback in early:
        callback()
    assert driver.listen() == []
    world.run(1)
    assert kinds(driver.listen()) == ["probe"]
