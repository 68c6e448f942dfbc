"""What is shown of a task: statuses and process transitions, each once, as plain dictionaries."""

from __future__ import annotations

import heapq
import uuid
from typing import TYPE_CHECKING, Any

from mesos.v1 import mesos_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Event = dict[str, Any]

_PREFIX = "PROCESS_STATE_"
_ENDED = (
    runner_pb2.PROCESS_STATE_SUCCESS,
    runner_pb2.PROCESS_STATE_FAILED,
    runner_pb2.PROCESS_STATE_KILLED,
    runner_pb2.PROCESS_STATE_LOST,
)
# A run passes these in order and may leave some out; the next step is any of the ends.
_PASSED = (
    runner_pb2.PROCESS_STATE_WAITING,
    runner_pb2.PROCESS_STATE_FORKED,
    runner_pb2.PROCESS_STATE_RUNNING,
)
_STEPS = {state: step for step, state in enumerate(_PASSED)} | dict.fromkeys(_ENDED, len(_PASSED))

TERMINAL_STATES = frozenset(
    {
        mesos_pb2.TASK_FINISHED,
        mesos_pb2.TASK_FAILED,
        mesos_pb2.TASK_KILLED,
        mesos_pb2.TASK_ERROR,
        mesos_pb2.TASK_LOST,
        mesos_pb2.TASK_DROPPED,
        mesos_pb2.TASK_GONE,
        mesos_pb2.TASK_GONE_BY_OPERATOR,
    }
)


def exit_status(state: int) -> int:
    """Exit status of `trivet run` for the task's last Mesos state."""
    return {mesos_pb2.TASK_FINISHED: 0, mesos_pb2.TASK_KILLED: 130}.get(state, 1)  # type: ignore[call-overload, no-any-return]


class Statuses:
    """Tells new status updates from those that were seen: a watch that is opened again begins at the first one."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def observe(self, status: mesos_pb2.TaskStatus) -> Event | None:
        """The event of a new status, None for a repeated one."""
        # Updates that the agent makes itself may come without a uuid.
        key = status.uuid or status.SerializeToString(deterministic=True)
        if key in self._seen:
            return None
        self._seen.add(key)
        return status_event(status)


def status_event(status: mesos_pb2.TaskStatus) -> Event:
    """Fields of Mesos' TaskStatus by their proto names; what is not set is null."""
    return {
        "type": "status",
        "task_id": status.task_id.value,
        "state": mesos_pb2.TaskState.Name(status.state),
        "reason": mesos_pb2.TaskStatus.Reason.Name(status.reason) if status.HasField("reason") else None,
        "message": status.message if status.HasField("message") else None,
        "healthy": status.healthy if status.HasField("healthy") else None,
        "source": mesos_pb2.TaskStatus.Source.Name(status.source) if status.HasField("source") else None,
        "timestamp": status.timestamp if status.HasField("timestamp") else None,
        "uuid": str(uuid.UUID(bytes=status.uuid)) if len(status.uuid) == 16 else None,
    }


class Transitions:
    """Turns runs, each told whole at any time and any number of times, into every transition once.

    A run that was not watched for a while is caught up with: its times say through which states it went.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], int] = {}

    def observe(self, runs: Iterable[runner_pb2.ProcessRun]) -> list[Event]:
        """Events of all transitions that were not seen before, merged over the processes by their times."""
        found: dict[str, list[tuple[float, Event]]] = {}
        for run in sorted(runs, key=lambda run: run.run):
            rows = found.setdefault(run.process, [])
            for at, event in self._new(run):
                # A stepped wall clock must not turn the order of one process round.
                rows.append((max(at, rows[-1][0]) if rows else at, event))
        return [event for _, event in heapq.merge(*found.values(), key=lambda row: row[0])]

    def _new(self, run: runner_pb2.ProcessRun) -> Iterator[tuple[float, Event]]:
        reached = _STEPS.get(run.state)
        if reached is None:
            return
        key = (run.process, run.run)
        seen = self._steps.get(key, -1)
        if reached <= seen:
            return
        self._steps[key] = reached
        times = (run.waiting_at, run.forked_at, run.running_at, run.ended_at)
        for state in _PASSED:
            step = _STEPS[state]
            if seen < step < reached and times[step]:
                yield times[step], process_event(run, state)
        yield times[reached], process_event(run, run.state)


def process_event(run: runner_pb2.ProcessRun, state: runner_pb2.ProcessState) -> Event:
    """One transition of one run; what is not known, or not yet, is null. A pid is known from RUNNING on."""
    ended = state in _ENDED
    begun = ended or state == runner_pb2.PROCESS_STATE_RUNNING
    return {
        "type": "process",
        "process": run.process,
        "run": run.run,
        "state": runner_pb2.ProcessState.Name(state).removeprefix(_PREFIX),
        "exit_code": run.exit.code if ended and run.exit.HasField("code") else None,
        "signal": run.exit.signal if ended and run.exit.HasField("signal") else None,
        "pid": run.pid if run.pid and begun else None,
    }


def end_event(state: int, sandbox: str) -> Event:
    """The last object of `--output json`."""
    return {"type": "end", "state": mesos_pb2.TaskState.Name(state), "sandbox": sandbox}
