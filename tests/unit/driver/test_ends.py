"""The driver's own deadlines and its fallback table, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from executor_shim.driver.ends import ANSWER_SECS, Do, Situation, next_step, shutdown_deadline
from trivet.link.v1 import link_pb2

QUIET: dict[str, Any] = {
    "now": 100.0,
    "launched_at": 50.0,
    "service_deadline": 60.0,
    "commanded_at": None,
    "command": 0,
    "command_message": "",
    "executor_ends": False,
    "deadline": float("inf"),
    "terminated": False,
    "completes_at": float("inf"),
    "accepted": True,
    "cause": 0,
    "phase": link_pb2.TASK_PHASE_ACTIVE,
    "message": "",
    "runner_up": True,
    "alive": 1,
    "empty_since": 0.0,
    "partition_aware": True,
}
KILL, OVERTIME = link_pb2.END_CAUSE_KILL, link_pb2.END_CAUSE_COMPLETION_TIME
KILLED_NOW = {"commanded_at": 100.0, "command": KILL, "command_message": "Killed by request", "deadline": 130.0}
DUE = {"completes_at": 99.0}
EXPIRED = {"commanded_at": 100.0, "command": OVERTIME, "command_message": "Too long", "deadline": 100.0}
LATER = {"now": 100.0 + ANSWER_SECS}


@pytest.mark.parametrize(
    ("case", "do", "state"),
    [
        pytest.param({}, Do.NOTHING, "", id="a task that lives is left alone"),
        pytest.param({"accepted": False}, Do.NOTHING, "", id="services have their time to come"),
        pytest.param({"accepted": False, "now": 110.0, "alive": 0}, Do.REPORT, "TASK_DROPPED", id="they never came"),
        pytest.param(
            {"accepted": False, "now": 110.0, "alive": 0, "partition_aware": False},
            Do.REPORT, "TASK_LOST", id="they never came, old framework",
        ),
        pytest.param(KILLED_NOW, Do.NOTHING, "", id="the runner has a second to answer"),
        pytest.param({**KILLED_NOW, **LATER}, Do.TERMINATE, "", id="it does not answer"),
        pytest.param({**KILLED_NOW, **LATER, "cause": KILL}, Do.NOTHING, "", id="it has answered"),
        pytest.param({**KILLED_NOW, **LATER, "terminated": True}, Do.NOTHING, "", id="processes are not dead yet"),
        pytest.param(
            {**KILLED_NOW, **LATER, "terminated": True, "alive": 0, "empty_since": 99.0},
            Do.REPORT, "TASK_KILLED", id="obeyed without the runner",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "terminated": True, "alive": 0, "empty_since": 104.5},
            Do.NOTHING, "", id="a second after the last process",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "cause": KILL, "alive": 0, "empty_since": 101.0},
            Do.NOTHING, "", id="the runner may be between two final processes",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 131.0, "cause": KILL, "alive": 0, "empty_since": 101.0},
            Do.REPORT, "TASK_KILLED", id="but not beyond the deadline",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "cause": KILL, "runner_up": False, "alive": 0, "empty_since": 101.0},
            Do.REPORT, "TASK_KILLED", id="the runner answered and died",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "cause": KILL, "alive": 0, "phase": link_pb2.TASK_PHASE_KILLED},
            Do.REPORT, "TASK_KILLED", id="runner done, reporter away",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 104.0, "cause": KILL, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS},
            Do.NOTHING, "", id="its own end waits for the reporter",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "cause": KILL, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS},
            Do.REPORT, "TASK_FINISHED", id="but not for ever when somebody asks",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 101.0, "cause": KILL, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS,
             "executor_ends": True},
            Do.REPORT, "TASK_FINISHED", id="unless the executor goes",
        ),
        pytest.param({"completes_at": 99.5}, Do.NOTHING, "", id="the runner has a second to end what takes too long"),
        pytest.param(DUE, Do.EXPIRE, "", id="it does not"),
        pytest.param({**DUE, "cause": OVERTIME}, Do.EXPIRE, "", id="it said so, but something lives"),
        pytest.param({**DUE, "cause": link_pb2.END_CAUSE_PLAN}, Do.NOTHING, "", id="final processes have their time"),
        pytest.param({**DUE, **KILLED_NOW}, Do.NOTHING, "", id="a KILL before it decides the grace"),
        pytest.param({**DUE, "alive": 0}, Do.NOTHING, "", id="nothing runs, so nothing runs too long"),
        pytest.param({**DUE, **EXPIRED, "now": 100.5, "alive": 0}, Do.NOTHING, "", id="dead, the runner may answer"),
        pytest.param({**DUE, **EXPIRED, "now": 101.0}, Do.TERMINATE, "", id="expired, no answer"),
        pytest.param(
            {**DUE, **EXPIRED, "now": 102.0, "terminated": True, "alive": 0, "empty_since": 100.0},
            Do.REPORT, "TASK_FAILED", id="expired, dead and no answer",
        ),
    ],
)  # fmt: skip
def test_step(case: dict[str, Any], do: Do, state: str) -> None:
    step = next_step(Situation(**{**QUIET, **case}))
    assert (step.do, step.state) == (do, state)


def test_a_step_that_is_not_due_names_the_moment_it_will_be() -> None:
    step = next_step(Situation(**{**QUIET, **KILLED_NOW}))
    assert step.at == pytest.approx(100.0 + ANSWER_SECS)
    later = next_step(Situation(**{**QUIET, **KILLED_NOW, "now": step.at}))
    assert later.do is Do.TERMINATE


@pytest.mark.parametrize(("grace", "left"), [(0.0, 0.0), (2.9, 0.0), (3.0, 1.0), (5.0, 3.0), (60.0, 58.0)])
def test_shutdown_keeps_two_seconds_for_the_statuses(grace: float, left: float) -> None:
    assert shutdown_deadline(10.0, grace) == pytest.approx(10.0 + left)


def test_a_status_for_a_reporter_that_says_nothing_does_not_say_that_it_was_away() -> None:
    case = {**KILLED_NOW, "now": 105.0, "cause": KILL, "alive": 0, "phase": link_pb2.TASK_PHASE_KILLED}
    step = next_step(Situation(**{**QUIET, **case}))
    assert step.message == "Ended (told by the executor alone, as its reporter did not answer in time)"


def test_a_status_of_the_drivers_own_says_what_the_runner_found() -> None:
    case: dict[str, Any] = {**KILLED_NOW, "now": 110.0, "cause": link_pb2.END_CAUSE_PLAN, "alive": 0}
    step = next_step(
        Situation(**{**QUIET, **case, "phase": link_pb2.TASK_PHASE_FAILED, "message": "p failed: signal 9"})
    )
    assert (step.state, step.reason) == ("TASK_FAILED", "")
    assert step.message.startswith("p failed: signal 9 (")


@pytest.mark.parametrize(
    ("first", "cause", "reason"),
    [
        (EXPIRED, 0, "REASON_MAX_COMPLETION_TIME_REACHED"),
        (EXPIRED, OVERTIME, "REASON_MAX_COMPLETION_TIME_REACHED"),
        # The runner has recorded another cause first.
        (EXPIRED, KILL, ""),
        (KILLED_NOW, 0, ""),
    ],
)
def test_the_reason_follows_the_first_cause(first: dict[str, Any], cause: int, reason: str) -> None:
    case = {**first, "now": 200.0, "terminated": True, "cause": cause, "alive": 0}
    assert next_step(Situation(**{**QUIET, **case})).reason == reason
