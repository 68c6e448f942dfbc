"""The book with real journals, under a clock and a schedule that the test moves. The drivers are doubles."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from services.common.keys import Executor
from services.health.book import FORGET_AFTER
from tests.unit.health.tasks import task_info
from tests.unit.health.world import CHECKED, DriverDouble, journals, kinds
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2


@pytest.mark.parametrize("info", [task_info(), b"\xff not a TaskInfo", task_info(processes=[])])
def test_a_task_without_a_check_passes_at_once_and_healthy_is_unset(driver: DriverDouble, info: bytes) -> None:
    (message,) = driver.launch(info, started=False)
    assert message.verdict.passed
    assert not message.verdict.HasField("healthy")
    assert not message.verdict.dead
    assert driver.state(started=True) == []
    driver.world.start()
    assert [message.verdict.passed for message in driver.attach()] == [True]


def test_probe_answer_verdict(driver: DriverDouble) -> None:
    (probe,) = driver.launch()
    assert (probe.probe.http.port, probe.probe.http.path) == (31001, "/health")
    (verdict,) = driver.answer(probe.probe)
    assert (verdict.verdict.passed, verdict.verdict.healthy, verdict.verdict.dead) == (True, True, False)
    driver.world.run(9.9)
    assert driver.listen() == []
    driver.world.run(0.2)
    (second,) = driver.listen()
    driver.world.run(0.5)
    assert driver.answer(second.probe) == []
    driver.world.run(10)
    (third,) = driver.listen()
    (verdict,) = driver.answer(third.probe, b"sorry", http_status=503)
    assert (verdict.verdict.passed, verdict.verdict.healthy, verdict.verdict.dead) == (True, False, True)
    assert verdict.verdict.message == (
        "HTTP health check failed: status 503, expected body 'ok', got 'sorry' (1 failure in a row, 0 allowed)"
    )
    driver.world.run(100)
    assert driver.listen() == []


def test_a_task_that_has_not_started_is_not_probed(driver: DriverDouble) -> None:
    assert driver.launch(started=False) == []
    assert driver.state(started=False) == []
    driver.world.run(100)
    assert driver.listen() == []
    assert kinds(driver.state(started=True)) == ["probe"]


@pytest.mark.parametrize(
    "fields",
    [
        {"phase": link_pb2.TASK_PHASE_CLEANING},
        {"phase": link_pb2.TASK_PHASE_SUCCESS},
        {"phase": link_pb2.TASK_PHASE_LOST},
        {"end_cause": link_pb2.END_CAUSE_KILL},
    ],
)
def test_an_ending_task_gets_no_probe_and_no_verdict(driver: DriverDouble, fields: dict[str, Any]) -> None:
    (probe,) = driver.launch()
    driver.state(started=True, **fields)
    assert driver.answer(probe.probe, b"sorry") == []
    driver.world.run(100)
    assert driver.listen() == []
    # An old view that comes late starts nothing.
    assert driver.state(started=True) == []


def test_a_launch_that_comes_twice_changes_nothing(driver: DriverDouble) -> None:
    driver.launch()
    assert driver.say(launch=link_pb2.Launch(key=driver.key().to_pb(), info=CHECKED)) == []
    assert driver.say(launch=link_pb2.Launch(key=driver.key().to_pb(), info=task_info())) == []


def test_forget_removes_check_and_journal(driver: DriverDouble) -> None:
    driver.launch()
    assert journals(driver.world) == 1
    driver.say(forget=link_pb2.Forget(key=driver.key().to_pb()))
    assert journals(driver.world) == 0
    assert driver.world.book.shown() == []
    driver.say(forget=link_pb2.Forget(key=driver.key().to_pb()))
    driver.world.run(100)
    assert kinds(driver.listen()) == []


@pytest.mark.parametrize("kind", ["launch", "task_state", "result", "forget"])
def test_a_driver_speaks_only_of_its_own_tasks(driver: DriverDouble, kind: str) -> None:
    (probe,) = driver.launch()
    intruder = DriverDouble(driver.world, Executor("f", "evil", "i"))
    intruder.attach()
    before = driver.world.book.shown()
    message: dict[str, Any] = {
        "launch": link_pb2.Launch(key=driver.key().to_pb(), info=task_info()),
        "task_state": link_pb2.TaskState(key=driver.key().to_pb(), phase=link_pb2.TASK_PHASE_KILLED),
        "result": pb.ProbeResult(key=driver.key().to_pb(), id=probe.probe.id, outcome=pb.PROBE_OUTCOME_TIMEOUT),
        "forget": link_pb2.Forget(key=driver.key().to_pb()),
    }
    intruder.say(**{kind: message[kind]})
    assert intruder.session is not None
    assert not intruder.session.alive
    assert driver.world.book.shown() == before


def test_a_full_disk_holds_no_verdict_back(driver: DriverDouble) -> None:
    path = driver.world.path / "checks" / f"{driver.key().file_name}.journal"
    path.symlink_to("/dev/full")
    (probe,) = driver.launch()
    (verdict,) = driver.answer(probe.probe)
    assert verdict.verdict.passed
    path.unlink()
    driver.world.start()
    assert kinds(driver.attach()) == ["need_task", "verdict"]
    assert driver.verdicts[driver.key()].passed


def test_a_driver_that_stays_away_for_an_hour_is_given_up(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    driver.world.run(FORGET_AFTER - 700)
    assert len(driver.world.book.shown()) == 1
    driver.world.run(1400)
    assert driver.world.book.shown() == []
    assert journals(driver.world) == 0


def test_a_task_that_was_ending_when_its_driver_left_is_given_up_at_the_next_look(driver: DriverDouble) -> None:
    driver.launch()
    driver.say(task_state=link_pb2.TaskState(key=driver.key().to_pb(), phase=link_pb2.TASK_PHASE_KILLED))
    driver.world.run(700)
    # Its driver is there.
    assert len(driver.world.book.shown()) == 1
    driver.detach()
    driver.world.run(700)
    assert driver.world.book.shown() == []
    assert journals(driver.world) == 0


def test_a_verdict_is_logged_when_the_opinion_changes_and_not_for_each_failure(
    driver: DriverDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    logged = []
    (probe,) = driver.launch(task_info({"max_consecutive_failures": 9, "initial_interval_secs": 5}, {"health": 31001}))
    for body in (b"ok", b"no", b"no", b"no", b"ok"):
        driver.answer(probe.probe, body=body)
        driver.world.run(10)
        (probe,) = driver.listen()
        logged.append(sum(record.message == "verdict" for record in caplog.records))
    assert logged == [1, 2, 2, 2, 3]


def test_nothing_secret_is_logged_or_told(driver: DriverDouble, caplog: pytest.LogCaptureFixture) -> None:
    assert driver.session is not None
    driver.session.hello.token = b"TOPSECRET"
    with caplog.at_level(logging.DEBUG):
        driver.answer(driver.launch()[0].probe)
    assert caplog.records
    assert "TOPSECRET" not in caplog.text + str(driver.heard)
