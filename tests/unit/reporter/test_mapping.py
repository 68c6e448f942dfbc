"""The table of statuses: every end has its row, only executors' reasons leave, messages are fit for Mesos."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.reporter.mapping import TABLE, TERMINAL_PHASES, TERMINAL_STATES, Situation, Wording, end_of
from services.reporter.writer import ALLOWED_REASONS, MAX_MESSAGE_BYTES, StatusWriter, one_line
from trivet.link.v1 import link_pb2

PLAN, INVALID = link_pb2.END_CAUSE_PLAN, link_pb2.END_CAUSE_INVALID
UNHEALTHY, OVERTIME = link_pb2.END_CAUSE_UNHEALTHY, link_pb2.END_CAUSE_COMPLETION_TIME
SUCCESS, FAILED = link_pb2.TASK_PHASE_SUCCESS, link_pb2.TASK_PHASE_FAILED
KILLED, LOST = link_pb2.TASK_PHASE_KILLED, link_pb2.TASK_PHASE_LOST


def write(situation: Situation, detail: str = "", *, health_checked: bool = False) -> mesos_pb2.TaskStatus:
    return StatusWriter().write(
        situation, task_id="t", detail=detail, health_checked=health_checked, timestamp=1700000000.5
    )


@pytest.mark.parametrize(
    ("cause", "phase", "aurora", "aware", "state", "reason", "healthy", "message"),
    [
        (PLAN, SUCCESS, False, True, "TASK_FINISHED", None, None, "said"),
        (PLAN, FAILED, False, True, "TASK_FAILED", None, None, "said"),
        (PLAN, KILLED, False, True, "TASK_KILLED", None, None, "said"),
        (PLAN, LOST, False, True, "TASK_FAILED", None, None, "Runner lost: said"),
        (PLAN, LOST, False, False, "TASK_LOST", None, None, "Runner lost: said"),
        (link_pb2.END_CAUSE_UNSPECIFIED, SUCCESS, False, True, "TASK_FINISHED", None, None, "said"),
        (INVALID, FAILED, True, True, "TASK_FAILED", None, None, "Task validation failed: said"),
        (INVALID, FAILED, False, True, "TASK_ERROR", 14, None, "Task validation failed: said"),
        (OVERTIME, FAILED, False, True, "TASK_FAILED", 33, None, "said"),
        (OVERTIME, KILLED, True, False, "TASK_FAILED", 33, None, "said"),
        (UNHEALTHY, FAILED, True, True, "TASK_FAILED", None, False, "Failed health check! said"),
        (UNHEALTHY, KILLED, True, True, "TASK_KILLED", None, False, "Killed by failing health check: said"),
        (UNHEALTHY, KILLED, False, True, "TASK_KILLED", None, False, "Killed by failing health check: said"),
        (UNHEALTHY, FAILED, False, True, "TASK_FAILED", None, False, "Failed health check! said"),
        (link_pb2.END_CAUSE_KILL, KILLED, False, True, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_KILL, SUCCESS, False, True, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_KILL, LOST, False, False, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_SHUTDOWN, KILLED, False, True, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_AGENT_GONE, KILLED, False, True, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_OPERATOR, KILLED, False, True, "TASK_KILLED", None, None, "said"),
        (link_pb2.END_CAUSE_DISK_LIMIT, FAILED, False, True, "TASK_FAILED", None, None, "said"),
        (link_pb2.END_CAUSE_LOSE, LOST, False, False, "TASK_LOST", None, None, "said"),
        (link_pb2.END_CAUSE_LOSE, LOST, False, True, "TASK_FAILED", None, None, "said"),
    ],
)
def test_each_end_has_its_state_reason_health_and_message(
    cause: link_pb2.EndCause,
    phase: link_pb2.TaskPhase,
    aurora: bool,
    aware: bool,
    state: str,
    reason: int | None,
    healthy: bool | None,
    message: str,
) -> None:
    ended = link_pb2.TaskState(end_cause=cause, phase=phase, aurora=aurora)
    status = write(end_of(ended, partition_aware=aware), "said", health_checked=True)
    assert mesos_pb2.TaskState.Name(status.state) == state
    assert (status.reason if status.HasField("reason") else None) == reason
    assert (status.healthy if status.HasField("healthy") else None) == healthy
    assert status.message == message


def test_every_cause_and_terminal_phase_ends_in_exactly_one_terminal_state() -> None:
    causes = [*link_pb2.EndCause.values(), 77]
    for cause, phase, aurora, aware in itertools.product(causes, TERMINAL_PHASES, (True, False), (True, False)):
        ended = link_pb2.TaskState(end_cause=cause, phase=phase, aurora=aurora)  # type: ignore[arg-type]
        assert TABLE[end_of(ended, partition_aware=aware)].state in TERMINAL_STATES


@pytest.mark.parametrize("phase", sorted(set(link_pb2.TaskPhase.values()) - TERMINAL_PHASES))
def test_a_phase_that_is_not_terminal_has_no_end(phase: link_pb2.TaskPhase) -> None:
    with pytest.raises(ValueError, match="not terminal"):
        end_of(link_pb2.TaskState(phase=phase), partition_aware=True)


def test_the_table_words_every_situation_and_uses_executors_reasons_only() -> None:
    assert set(TABLE) == set(Situation)
    assert {14, 15, 28, 29, 33} == ALLOWED_REASONS
    assert {row.reason for row in TABLE.values()} <= ALLOWED_REASONS | {None}
    assert all(row.text for row in TABLE.values() if row.state in TERMINAL_STATES)


@pytest.mark.parametrize("reason", sorted(set(mesos_pb2.TaskStatus.Reason.values()) - ALLOWED_REASONS))
def test_any_other_reason_is_left_out_counted_and_logged(
    reason: mesos_pb2.TaskStatus.Reason, caplog: pytest.LogCaptureFixture
) -> None:
    writer = StatusWriter({Situation.FAILED: Wording(mesos_pb2.TASK_FAILED, reason=reason)})
    status = writer.write(Situation.FAILED, task_id="t", detail="", health_checked=False, timestamp=1.0)
    assert not status.HasField("reason")
    assert writer.refused == {reason: 1}
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_healthy_is_left_out_of_tasks_without_a_health_check() -> None:
    assert not write(Situation.ENDED_UNHEALTHY).HasField("healthy")
    assert write(Situation.ENDED_UNHEALTHY, health_checked=True).healthy is False


def test_running_of_a_gated_task_says_healthy_without_a_reason() -> None:
    status = write(Situation.GATE_PASSED, "ignored", health_checked=True)
    assert (status.state, status.healthy) == (mesos_pb2.TASK_RUNNING, True)
    assert not status.HasField("reason")
    assert not status.HasField("message")


def test_starting_and_running_carry_nothing_but_id_state_and_time() -> None:
    for situation in (Situation.ACCEPTED, Situation.RUNNING):
        fields = {field.name for field, _ in write(situation, "detail").ListFields()}
        assert fields == {"task_id", "state", "timestamp"}


def test_source_uuid_and_executor_are_the_drivers() -> None:
    for situation in Situation:
        fields = {field.name for field, _ in write(situation, "x", health_checked=True).ListFields()}
        assert not fields & {"source", "uuid", "executor_id", "agent_id", "data", "labels"}


def test_a_prefix_is_not_said_twice() -> None:
    assert write(Situation.LOST, "Runner lost: gone").message == "Runner lost: gone"
    assert write(Situation.LOST, "  ").message == "Runner lost"


def test_a_clock_without_a_number_leaves_the_timestamp_out() -> None:
    status = StatusWriter().write(
        Situation.RUNNING, task_id="t", detail="", health_checked=False, timestamp=float("nan")
    )
    assert not status.HasField("timestamp")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand tab", "two lines and tab"),
        ("nul\0 esc\x1b[31m", "nul esc [31m"),
        ("lone \ud83d surrogate", "lone \N{REPLACEMENT CHARACTER} surrogate"),
        ("line\u2028separator\u2029s", "line separator s"),
        ("umlaut ä, 漢", "umlaut ä, 漢"),
    ],
)
def test_messages_are_one_line_of_valid_text(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text(st.characters(), max_size=3000))
def test_any_text_becomes_a_short_line_that_protobuf_can_carry(text: str) -> None:
    status = write(Situation.FAILED, text)
    message = mesos_pb2.TaskStatus.FromString(status.SerializeToString()).message
    assert len(message.encode()) <= MAX_MESSAGE_BYTES
    assert message.isprintable()
    assert message


def test_a_long_message_is_cut_between_characters() -> None:
    line = one_line("漢" * 1000)
    assert line.endswith("漢...")
    assert MAX_MESSAGE_BYTES - 3 <= len(line.encode()) <= MAX_MESSAGE_BYTES
