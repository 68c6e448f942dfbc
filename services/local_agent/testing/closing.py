"""The end of a test: executors are told to shut down."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from services.local_agent.client.connection import AgentError
from services.local_agent.testing.leftovers import Leftover, command_line, wait_ended
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from services.local_agent.testing.scheduler import Scheduler

# Longer than any grace period that a test waits for.
_END_SECS = 60.0
# Of an agent that a test has restarted: no window for coming back is longer than 15 s (Mesos). One that is held back
# for longer on purpose is not waited for.
_RECOVERY_SECS = 20.0
_LIVE = frozenset(
    {
        agent_pb2.EXECUTOR_STATE_REGISTERING,
        agent_pb2.EXECUTOR_STATE_RUNNING,
        agent_pb2.EXECUTOR_STATE_TERMINATING,
    }
)


def shut_down_all(scheduler: Scheduler) -> list[Leftover]:
    """SHUTDOWN to all executors; waits for their end and returns those that had to be destroyed.

    Executors that could not be told, because the agent is still held in its recovery, are left to the agent's end.
    """
    live = [executor for executor in scheduler.executors() if executor.state in _LIVE]
    if not live or not _serves(scheduler):
        return []
    told: dict[str, Leftover] = {}
    for executor in live:
        if _tell(scheduler, executor) and executor.pid:
            why = "it did not end within its grace period after SHUTDOWN"
            told[executor.container_id] = Leftover(executor.pid, command_line(executor.pid), why)
    deadline = time.monotonic() + _END_SECS
    for leftover in told.values():
        # The agent destroys it after its grace period.
        wait_ended(leftover.pid, deadline - time.monotonic())
    while told:
        rows = {executor.container_id: executor for executor in scheduler.executors()}
        if not any(rows[name].state in _LIVE for name in told if name in rows) or time.monotonic() > deadline:
            return [left for name, left in told.items() if name in rows and rows[name].exit_signal == signal.SIGKILL]
        # The agent gets to know the end at the same moment as this process, and cleans up first: milliseconds.
        time.sleep(0.005)
    return []


def _serves(scheduler: Scheduler) -> bool:
    try:
        scheduler.client.wait_serving(_RECOVERY_SECS)
    except AgentError as error:
        if error.code != "DEADLINE_EXCEEDED":
            raise
        return False
    return True


def _tell(scheduler: Scheduler, executor: agent_pb2.Executor) -> bool:
    """False: it is over, has no stream, or the agent takes no orders: nobody can blame it for not obeying."""
    try:
        return scheduler.shutdown(executor.framework_id, executor.executor_id)
    except AgentError as error:
        if error.code not in {"NOT_FOUND", "UNAVAILABLE"}:
            raise
        return False
