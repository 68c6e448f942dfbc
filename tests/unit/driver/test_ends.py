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
    "executor_ends": False,
    "deadline": float("inf"),
    "terminated": False,
    "accepted": True,
    "answered": False,
    "phase": link_pb2.TASK_PHASE_ACTIVE,
    "runner_up": True,
    "alive": 1,
    "empty_since": 0.0,
    "partition_aware": True,
}
KILLED_NOW = {"commanded_at": 100.0, "deadline": 130.0}
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
        pytest.param({**KILLED_NOW, **LATER, "answered": True}, Do.NOTHING, "", id="it has answered"),
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
            {**KILLED_NOW, "now": 105.0, "answered": True, "alive": 0, "empty_since": 101.0},
            Do.NOTHING, "", id="the runner may be between two final processes",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 131.0, "answered": True, "alive": 0, "empty_since": 101.0},
            Do.REPORT, "TASK_KILLED", id="but not beyond the deadline",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "answered": True, "runner_up": False, "alive": 0, "empty_since": 101.0},
            Do.REPORT, "TASK_KILLED", id="the runner answered and died",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "answered": True, "alive": 0, "phase": link_pb2.TASK_PHASE_KILLED},
            Do.REPORT, "TASK_KILLED", id="runner done, reporter away",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 104.0, "answered": True, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS},
            Do.NOTHING, "", id="its own end waits for the reporter",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 105.0, "answered": True, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS},
            Do.REPORT, "TASK_FINISHED", id="but not for ever when somebody asks",
        ),
        pytest.param(
            {**KILLED_NOW, "now": 101.0, "answered": True, "alive": 0, "phase": link_pb2.TASK_PHASE_SUCCESS,
             "executor_ends": True},
            Do.REPORT, "TASK_FINISHED", id="unless the executor goes",
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
    case = {**KILLED_NOW, "now": 105.0, "answered": True, "alive": 0, "phase": link_pb2.TASK_PHASE_KILLED}
    step = next_step(Situation(**{**QUIET, **case}))
    assert step.message == "Ended; the reporter did not answer in time"
