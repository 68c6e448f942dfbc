"""Health and check updates: when there is news, when it is told, and that neither hides the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from services.reporter.checks import status_of
from services.reporter.updates import Kind, kind_of
from tests.unit.reporter.sayings import COMMAND, HTTP, TCP, Told, http, row, verdict
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from services.reporter.task import Entry

STARTING, RUNNING = mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING
HEALTH, CHECK = 29, 28


def rows(entries: list[Entry]) -> list[tuple[int, int | None, bool | None, str]]:
    return [row(entry) for entry in entries]


def test_without_a_gate_running_comes_at_once_and_says_nothing_of_health() -> None:
    told = Told()
    said = told.tell(100.0, verdict(1, healthy=True, reports=1))
    assert rows(said) == [(STARTING, None, None, ""), (RUNNING, None, None, "")]
    assert rows(told.tell(101.0)) == [(RUNNING, HEALTH, True, "probed")]


def test_each_failure_that_counts_is_told_although_healthy_stays_as_it_is() -> None:
    told = Told()
    told.tell(100.0)
    for n in (1, 2, 3):
        message = f"HTTP health check failed ({n}/3): status 503"
        said = told.tell(110.0 + 10 * n, verdict(n, healthy=False, reports=n, message=message))
        assert rows(said) == [(RUNNING, HEALTH, False, message)]
    assert told.tell(200.0) == []


def test_aurora_tells_changes_of_healthy_only() -> None:
    told = Told(gated=True)
    said = told.tell(100.0, verdict(1, healthy=True))
    assert rows(said)[-1] == (RUNNING, None, True, "")
    assert rows(told.tell(110.0, verdict(2, healthy=False, message="failed"))) == [(RUNNING, HEALTH, False, "failed")]
    assert told.tell(120.0, verdict(3, healthy=False, message="failed again")) == []
    assert rows(told.tell(130.0, verdict(4, healthy=True, message="passed"))) == [(RUNNING, HEALTH, True, "passed")]


def test_the_gate_of_a_mesos_health_check_opens_with_its_first_success_as_reason() -> None:
    told = Told(gated=True)
    assert rows(told.tell(100.0, verdict(1, passed=False, healthy=False, reports=1))) == [(STARTING, None, None, "")]
    said = told.tell(110.0, verdict(2, healthy=True, reports=2, message="TCP health check passed"))
    assert rows(said) == [(RUNNING, HEALTH, True, "TCP health check passed")]
    assert told.tell(120.0) == [], "told twice"


def test_a_gate_that_was_passed_while_nobody_listened_is_told_before_the_failure_after_it() -> None:
    told = Told(gated=True)
    told.tell(100.0)
    said = told.tell(110.0, verdict(2, healthy=False, reports=2, message="failed (1/3)"))
    assert rows(said) == [(RUNNING, HEALTH, True, "Health check passed")]
    assert rows(told.tell(111.0)) == [(RUNNING, HEALTH, False, "failed (1/3)")]


def test_reports_of_less_than_a_second_are_told_by_the_newest_alone() -> None:
    told = Told()
    told.tell(100.0)
    told.tell(110.0, verdict(1, healthy=False, reports=1))
    for n in range(2, 12):
        assert told.tell(110.0 + n / 20, verdict(n, healthy=n % 2 == 1, reports=n, message=f"{n}")) == []
        assert told.task.chain.next_wakeup(110.0 + n / 20) == 111.0
    assert rows(told.tell(111.0)) == [(RUNNING, HEALTH, True, "11")]


def test_a_check_is_told_when_its_result_changes_in_value_or_in_presence() -> None:
    told = Told(health_checked=False)
    said = told.tell(100.0, verdict(1))
    assert not any(entry.status.HasField("check_status") for entry in said), (
        "the driver's own is right before any result"
    )
    for now, changes, status in ((110.0, 1, 200), (120.0, 2, 503), (130.0, 3, None), (140.0, 4, 200)):
        (entry,) = told.tell(now, verdict(changes + 1, status=status, changes=changes))
        assert row(entry) == (RUNNING, CHECK, None, f"HTTP check: status {status}")
        assert http(entry) == status
        assert told.tell(now + 5, verdict(changes + 1, status=status, changes=changes)) == []


def test_a_check_without_any_result_yet_is_no_news_and_known_by_its_type() -> None:
    told = Told()
    said = verdict(1)
    said.check_result.type = HTTP
    entries = told.tell(100.0, said)
    assert [http(entry) for entry in entries] == [None, None]
    assert told.tell(200.0) == []


def test_neither_kind_hides_the_other() -> None:
    told = Told()
    told.tell(100.0)
    told.tell(110.0, verdict(1, healthy=False, reports=1, status=200, changes=1))
    told.tell(120.0)
    (health,) = told.tell(130.0, verdict(2, healthy=True, reports=2, status=200, changes=1))
    assert (row(health)[1:3], http(health)) == ((HEALTH, True), 200)
    (check,) = told.tell(140.0, verdict(3, healthy=True, reports=2, status=404, changes=2))
    assert (row(check)[1:3], http(check)) == ((CHECK, True), 404)


def test_news_of_both_kinds_are_told_in_turns_a_second_apart() -> None:
    told = Told()
    told.tell(100.0)
    kinds = []
    for n in range(1, 7):
        (entry,) = told.tell(100.0 + n, verdict(n, healthy=False, reports=n, status=200 + n, changes=n))
        kinds.append(kind_of(entry.status))
        assert http(entry) == 200 + n
        assert entry.status.healthy is False
    assert kinds == [Kind.HEALTH, Kind.CHECK] * 3


def test_killing_and_the_end_keep_the_result_of_the_check_and_nothing_of_health() -> None:
    told = Told()
    told.tell(100.0, verdict(1, healthy=False, reports=1, status=503, changes=1))
    told.task.chain.framework = told.task.chain.framework._replace(task_killing_state=True)
    told.state.end_cause = link_pb2.END_CAUSE_KILL
    told.task.chain.take_state(told.state)
    (killing,) = told.tell(110.0)
    told.state.phase = link_pb2.TASK_PHASE_KILLED
    told.task.chain.take_state(told.state)
    (killed,) = told.tell(111.0)
    assert [row(e)[:3] for e in (killing, killed)] == [(8, None, None), (4, None, None)]
    assert [http(e) for e in (killing, killed)] == [503, 503]


def test_no_more_than_one_of_a_kind_is_on_its_way_to_the_agent() -> None:
    told = Told()
    told.tell(100.0)
    assert len(told.tell(110.0, verdict(1, healthy=False, reports=1), acknowledge=False)) == 1
    assert told.tell(115.0, verdict(2, healthy=False, reports=2), acknowledge=False) == []
    # One of the other kind may go.
    said = told.tell(116.0, verdict(3, healthy=False, reports=3, status=200, changes=1), acknowledge=False)
    assert [row(entry)[1] for entry in said] == [CHECK]
    assert told.task.chain.next_wakeup(116.5) == 120.0
    # An outage piles up one of each kind every ten seconds.
    assert [row(entry)[1] for entry in told.tell(120.0, acknowledge=False)] == [HEALTH]


def test_an_acknowledgement_lets_the_next_one_go() -> None:
    told = Told()
    told.tell(100.0)
    told.tell(110.0, verdict(1, healthy=False, reports=1), acknowledge=False)
    told.hear(verdict(2, healthy=True, reports=2))
    told.acknowledge(told.task.entries[-1])
    assert [row(entry)[1:3] for entry in told.tell(111.0)] == [(HEALTH, True)]


@pytest.mark.parametrize(
    ("result", "kind", "part"),
    [
        (link_pb2.CheckResult(type=HTTP, http_status=503), mesos_pb2.CheckInfo.HTTP, "http { status_code: 503 }"),
        (link_pb2.CheckResult(type=COMMAND, exit_code=0), mesos_pb2.CheckInfo.COMMAND, "command { exit_code: 0 }"),
        (link_pb2.CheckResult(type=TCP, connected=False), mesos_pb2.CheckInfo.TCP, "tcp { succeeded: false }"),
        (link_pb2.CheckResult(type=HTTP), mesos_pb2.CheckInfo.HTTP, "http { }"),
        (link_pb2.CheckResult(type=COMMAND), mesos_pb2.CheckInfo.COMMAND, "command { }"),
        (link_pb2.CheckResult(type=TCP), mesos_pb2.CheckInfo.TCP, "tcp { }"),
        # A value of another type is none.
        (link_pb2.CheckResult(type=TCP, exit_code=1), mesos_pb2.CheckInfo.TCP, "tcp { }"),
    ],
)
def test_a_result_becomes_the_message_of_its_type_and_no_other(
    result: link_pb2.CheckResult, kind: mesos_pb2.CheckInfo.Type, part: str
) -> None:
    status = status_of(result)
    assert status is not None
    name = mesos_pb2.CheckInfo.Type.Name(kind)
    assert " ".join(str(status).split()) == f"type: {name} {part}"


def test_a_check_of_a_type_that_is_not_known_here_is_left_out() -> None:
    told = Told()
    told.tell(100.0)
    said = verdict(1, healthy=True, reports=1, status=200, changes=1)
    said.check_result.type = 77  # type: ignore[assignment]  # a newer health service's
    (entry,) = told.tell(110.0, said)
    assert row(entry)[1] == HEALTH
    assert not entry.status.HasField("check_status")
    assert told.tell(200.0) == []
    assert status_of(link_pb2.CheckResult(changes=3)) is None
