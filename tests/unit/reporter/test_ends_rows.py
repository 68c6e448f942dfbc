"""Whole lives of tasks: each way to end, with all statuses from the first one on, as its framework gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from mesos.v1 import mesos_pb2
from services.reporter.writer import one_line
from tests.unit.reporter.sayings import KEY, running_state
from tests.unit.reporter.wire import Request, Wire
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

CLEANING, FINALIZING = link_pb2.TASK_PHASE_CLEANING, link_pb2.TASK_PHASE_FINALIZING
SUCCESS, FAILED = link_pb2.TASK_PHASE_SUCCESS, link_pb2.TASK_PHASE_FAILED
KILLED, LOST = link_pb2.TASK_PHASE_KILLED, link_pb2.TASK_PHASE_LOST
KILL, SHUTDOWN = link_pb2.END_CAUSE_KILL, link_pb2.END_CAUSE_SHUTDOWN
UNHEALTHY, OVERTIME = link_pb2.END_CAUSE_UNHEALTHY, link_pb2.END_CAUSE_COMPLETION_TIME
PLAN, DISK = link_pb2.END_CAUSE_PLAN, link_pb2.END_CAUSE_DISK_LIMIT


class Life:
    """One task from its start on. `row`: what its framework has got since the last look."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.state = link_pb2.TaskState()
        self.verdict = link_pb2.Verdict(key=KEY.to_pb(), passed=True)
        self._seen = 0

    def begin(self, *, killing: bool = True, gated: bool = False, aurora: bool = False, checked: bool = False) -> Life:
        self.wire.killing = killing
        self.wire.attach()
        self.state = running_state(gated=gated, aurora=aurora, health_checked=checked)
        self.verdict.passed = not gated
        self.says()
        if not gated:
            assert self.row() == [("STARTING", None, None, ""), ("RUNNING", None, None, "")]
        return self

    def says(
        self,
        phase: link_pb2.TaskPhase | None = None,
        cause: link_pb2.EndCause | None = None,
        message: str = "",
    ) -> None:
        """The runner: a new phase, an end's cause."""
        self.state.version += 1
        self.state.phase = phase or self.state.phase
        self.state.end_cause = cause or self.state.end_cause
        self.state.message = message or self.state.message
        self.wire.driver.state = self.state
        self.wire.say(Request(task_state=self.state))

    def probed(self, *, healthy: bool, message: str, reports: int = 0, dead: bool = False, after: float = 10.0) -> None:
        """Health: a result that counts, after some seconds."""
        self.wire.flush()
        self.wire.wait(after)
        self.verdict.version += 1
        self.verdict.healthy = healthy
        self.verdict.passed |= healthy
        self.verdict.health_reports = reports
        self.verdict.dead = dead
        self.verdict.message = message
        self.wire.driver.verdict = self.verdict
        self.wire.say(Request(verdict=self.verdict))

    def row(self) -> list[tuple[str, int | None, bool | None, str]]:
        self.wire.flush()
        statuses = self.wire.driver.accepted[self._seen :]
        self._seen += len(statuses)
        return [
            (
                mesos_pb2.TaskState.Name(status.state).removeprefix("TASK_"),
                status.reason if status.HasField("reason") else None,
                status.healthy if status.HasField("healthy") else None,
                status.message,
            )
            for status in statuses
        ]


@pytest.fixture
def life() -> Iterator[Life]:
    wire = Wire()
    yield Life(wire)
    wire.close()


def test_max_completion_time_has_no_killing_and_reason_33(life: Life) -> None:
    life.begin(checked=True)
    life.says(CLEANING, OVERTIME, "The task ran longer than its max_completion_time")
    assert life.row() == []
    life.says(FAILED)
    assert life.row() == [("FAILED", 33, None, "The task ran longer than its max_completion_time")]


def test_max_completion_time_in_the_middle_of_a_kill_is_that_kill(life: Life) -> None:
    life.begin()
    life.says(CLEANING, KILL, "Killed by request")
    # The runner keeps its first cause; the end that the driver asks for besides changes nothing.
    life.wire.driver.ends += [link_pb2.EndRequest(cause=KILL, seq=1), link_pb2.EndRequest(cause=OVERTIME, seq=2)]
    life.wire.attach()
    life.says(KILLED)
    assert life.row() == [("KILLING", None, None, "Killed by request"), ("KILLED", None, None, "Killed by request")]


class Policy(NamedTuple):
    grace: float | None
    repeats: tuple[float, ...] = ()


@pytest.mark.parametrize("policy", [Policy(None), Policy(0.0), Policy(60.0), Policy(60.0, (5.0, 1.0, 90.0))])
@pytest.mark.parametrize("killing", [True, False])
def test_a_kill_policy_and_its_overrides_change_no_status(life: Life, policy: Policy, killing: bool) -> None:
    life.begin(killing=killing)
    for seq, grace in enumerate((policy.grace, *policy.repeats), 1):
        life.wire.driver.ends.append(link_pb2.EndRequest(cause=KILL, seq=seq, grace_secs=grace))
        life.says(CLEANING, KILL, "Killed by request")
        life.wire.attach()
    life.says(FINALIZING)
    life.says(KILLED)
    told = life.row()
    assert told == [("KILLING", None, None, "Killed by request")] * killing + [
        ("KILLED", None, None, "Killed by request")
    ]


@pytest.mark.parametrize("phase", [KILLED, SUCCESS, FAILED])
def test_a_task_that_ends_well_or_badly_while_it_is_killed_was_killed(life: Life, phase: link_pb2.TaskPhase) -> None:
    life.begin(killing=False)
    life.says(CLEANING, KILL, "Killed by request")
    life.says(phase)
    assert life.row() == [("KILLED", None, None, "Killed by request")]


def test_a_kill_before_anything_was_started(life: Life) -> None:
    life.wire.attach()
    life.state = running_state(health_checked=False)
    life.state.started = False
    life.says(KILLED, KILL, "Killed by request")
    assert life.row() == [("STARTING", None, None, ""), ("KILLED", None, None, "Killed by request")]


@pytest.mark.parametrize("aurora", [False, True])
def test_the_end_by_a_mesos_health_check(life: Life, aurora: bool) -> None:
    life.begin(checked=True, aurora=aurora)
    for n in (1, 2, 3):
        message = f"HTTP health check failed ({n}/3): status 503"
        life.probed(healthy=False, message=message, reports=n, dead=n == 3)
        assert life.row() == [("RUNNING", 29, False, message)]
    life.says(CLEANING, UNHEALTHY, "HTTP health check failed (3/3): status 503")
    # Aurora's scheduler takes KILLING for the end.
    assert life.row() == [("KILLING", None, None, "HTTP health check failed (3/3): status 503")] * (not aurora)
    life.says(KILLED)
    message = "Killed by failing health check: HTTP health check failed (3/3): status 503"
    assert life.row() == [("KILLED", None, False, message)]


def test_the_end_by_auroras_health_check(life: Life) -> None:
    life.begin(gated=True, aurora=True)
    assert life.row() == [("STARTING", None, None, "")]
    life.probed(healthy=True, message="HTTP health check passed")
    assert life.row() == [("RUNNING", None, True, "")]
    why = "HTTP health check failed: timed out after 1 s (1 failure in a row, 0 allowed)"
    life.probed(healthy=False, message=why, dead=True)
    assert life.row() == [("RUNNING", 29, False, why)]
    life.says(CLEANING, UNHEALTHY, why)
    life.says(FAILED)
    assert life.row() == [("FAILED", None, False, f"Failed health check! {why}")]


def test_a_gated_task_that_never_passes_is_never_called_running(life: Life) -> None:
    life.begin(gated=True, aurora=True)
    life.probed(healthy=False, message="not healthy within 15 s", dead=True)
    life.says(CLEANING, UNHEALTHY, "not healthy within 15 s")
    life.says(FAILED)
    assert life.row() == [
        ("STARTING", None, None, ""),
        ("FAILED", None, False, "Failed health check! not healthy within 15 s"),
    ]


def test_a_health_check_that_fails_faster_than_updates_may_go_is_told_by_the_end_alone(life: Life) -> None:
    life.begin(checked=True, killing=False)
    life.probed(healthy=False, message="(1/2)", reports=1)
    life.probed(healthy=False, message="(2/2)", reports=2, dead=True, after=0.2)
    life.says(CLEANING, UNHEALTHY, "(2/2)")
    life.wire.wait(20.0)
    life.says(KILLED)
    assert life.row() == [
        ("RUNNING", 29, False, "(1/2)"),
        ("KILLED", None, False, "Killed by failing health check: (2/2)"),
    ]


def test_a_kill_of_an_unhealthy_task_is_not_taken_for_healths(life: Life) -> None:
    life.begin(checked=True, killing=False)
    life.probed(healthy=False, message="(1/3)", reports=1)
    life.says(CLEANING, KILL, "Killed by request")
    life.probed(healthy=False, message="(3/3)", reports=3, dead=True)
    life.says(KILLED)
    assert life.row() == [("RUNNING", 29, False, "(1/3)"), ("KILLED", None, None, "Killed by request")]


@pytest.mark.parametrize("killing", [True, False])
def test_shutdown(life: Life, killing: bool) -> None:
    life.begin(killing=killing)
    life.says(CLEANING, SHUTDOWN, "Killed: the executor is shut down")
    life.says(KILLED)
    told = [("KILLING", None, None, "Killed: the executor is shut down")] * killing
    assert life.row() == [*told, ("KILLED", None, None, "Killed: the executor is shut down")]


def test_shutdown_without_any_grace_says_the_end_at_once(life: Life) -> None:
    life.begin()
    life.says(KILLED, SHUTDOWN, "Killed: the executor is shut down")
    assert life.row() == [("KILLED", None, None, "Killed: the executor is shut down")]


def test_the_disk_limit_is_a_failure_without_the_agents_reason(life: Life) -> None:
    life.begin()
    why = "Disk limit exceeded: the sandbox takes 2 bytes, reserved are 1"
    life.says(CLEANING, DISK, why)
    life.says(FAILED)
    assert life.row() == [("KILLING", None, None, why), ("FAILED", None, None, why)]


def test_a_plan_that_ends_is_not_killed(life: Life) -> None:
    life.begin()
    life.says(CLEANING, PLAN, "Task completed")
    life.says(FINALIZING)
    life.says(SUCCESS)
    assert life.row() == [("FINISHED", None, None, "Task completed")]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("processes[2].cmdline: is required", "Task validation failed: processes[2].cmdline: is required"),
        ("Task group rejected: task 'b': name: empty", "Task group rejected: task 'b': name: empty"),
        ("Task validation failed: x", "Task validation failed: x"),
        ("", "Task validation failed"),
    ],
)
@pytest.mark.parametrize("aurora", [True, False])
def test_a_refused_task_has_its_end_alone(life: Life, said: str, told: str, aurora: bool) -> None:
    life.wire.attach()
    life.state = running_state(aurora=aurora, health_checked=False)
    life.state.started = False
    life.says(FAILED, link_pb2.END_CAUSE_INVALID, said)
    assert life.row() == [("FAILED" if aurora else "ERROR", None if aurora else 14, None, told)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lone \ud83d surrogate", "lone \N{REPLACEMENT CHARACTER} surrogate"),
        ("nul\0, bell\a, del\x7f", "nul , bell , del"),
        ("\u202eevil\u202c turned \u2066round\u2069", "evil turned round"),
        ("a\r\nb\u2028c\u0085d", "a b c d"),
    ],
)
def test_messages_are_harmless(text: str, message: str) -> None:
    assert one_line(text) == message


@pytest.mark.parametrize("character", ["é", "漢", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("shift", range(4))
def test_a_message_is_cut_at_1024_bytes_between_characters(character: str, shift: int) -> None:
    line = one_line("x" * shift + character * 1024)
    assert 1024 - len(character.encode()) < len(line.encode()) <= 1024
    assert set(line.removesuffix("...")) <= {"x", character}
    exact = "x" * (1024 - len(character.encode())) + character
    assert one_line(exact) == exact
