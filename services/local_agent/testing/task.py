"""A launched task, as its scheduler and its author see it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mesos.v1 import mesos_pb2
from services.local_agent.client.connection import AgentError
from services.local_agent.testing import report
from services.local_agent.testing.leftovers import wait_ended
from services.local_agent.testing.process import AgentDied
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.local_agent.testing.scheduler import Scheduler

WAIT_SECS = 30.0
TERMINAL_STATES = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)


class WaitTimeout(AssertionError, TimeoutError):
    """What was waited for did not come in time; the text shows what has come so far."""


class Task:
    """One launch of a task. Everything may be asked at any time; updates are collected while the test goes on."""

    def __init__(
        self, agent: Scheduler, info: mesos_pb2.TaskInfo, launched: agent_pb2.LaunchTaskResponse, since: float
    ) -> None:
        self.info = info
        self.task_id = info.task_id.value
        self.executor_id = info.executor.executor_id.value
        self.framework_id = launched.framework_id
        self.container_id = launched.container_id
        # Why there is nothing to wait for: the executor could not be started, or the task was dropped; mostly empty.
        self.launch_failure = launched.failure
        # Where the executor started; its stdout and stderr are here.
        self.sandbox = Path(launched.sandbox)
        self._agent = agent
        self._since = since
        self._received: list[agent_pb2.WatchTaskResponse] = []
        self._trouble: str | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, name=f"updates of {self.task_id}", daemon=True)
        self._thread.start()

    @property
    def updates(self) -> list[mesos_pb2.TaskStatus]:
        """What the scheduler has received so far, oldest first."""
        with self._changed:
            return [entry.status for entry in self._received]

    @property
    def received(self) -> list[agent_pb2.WatchTaskResponse]:
        """The same with the times of receipt, and of the writing of LAUNCH and KILL (CLOCK_MONOTONIC, seconds)."""
        with self._changed:
            return list(self._received)

    @property
    def states(self) -> list[str]:
        """The states of `updates`: `["TASK_STARTING", ...]`."""
        return [mesos_pb2.TaskState.Name(status.state) for status in self.updates]

    @property
    def state(self) -> str | None:
        """The newest state; None: no update has come yet."""
        states = self.states
        return states[-1] if states else None

    @property
    def stdout(self) -> str:
        """What the executor has written so far."""
        return self._read("stdout")

    @property
    def stderr(self) -> str:
        """What the executor has written so far."""
        return self._read("stderr")

    @property
    def executor(self) -> agent_pb2.Executor:
        """The executor as the agent knows it: state, pid, exit code.

        Raises:
            AgentError: no answer; NOT_FOUND: the agent has forgotten it.
        """
        for entry in self._agent.executors():
            if entry.container_id == self.container_id:
                return entry
        raise AgentError(f"the agent knows no executor {self.executor_id} any more", "NOT_FOUND")

    def wait(self, state: str | None = None, timeout: float = WAIT_SECS) -> Self:
        """Waits for an update with this state, which may have come already; without one, for a terminal state.

        Args:
            state: a name such as `TASK_RUNNING`.
            timeout: seconds.

        Raises:
            WaitTimeout: it did not come, or cannot come any more: the task has ended otherwise.
            ValueError: there is no such state.
        """
        if state is None:
            return self.wait_for(lambda task: task.state in TERMINAL_STATES, timeout, "a terminal state")
        if state not in mesos_pb2.TaskState.keys():  # noqa: SIM118 - not a dictionary
            raise ValueError(f"{state!r} is no state of a task; Mesos has {', '.join(mesos_pb2.TaskState.keys())}")
        self.wait_for(lambda task: state in task.states or task.state in TERMINAL_STATES, timeout, state)
        if state not in self.states:
            raise WaitTimeout(f"{state} cannot come any more: the task has ended\n{self.describe()}")
        return self

    def wait_for(
        self, true: Callable[[Task], bool], timeout: float = WAIT_SECS, what: str = "what was waited for"
    ) -> Self:
        """Waits until `true` of this task; it is asked again after each update.

        Raises:
            WaitTimeout: it did not become true; `what` names it.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                if true(self):
                    return self
                if self._trouble is not None:
                    break
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    break
        reason = self._trouble or f"not after {timeout:g} s"
        raise WaitTimeout(f"{what}: {reason}\n{self.describe()}")

    def wait_executor_ended(self, timeout: float = WAIT_SECS) -> agent_pb2.Executor:
        """Waits until the executor's process has ended and the agent knows it; the answer has exit code and signal.

        Raises:
            WaitTimeout: it still lives after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        pid = self.executor.pid
        if not wait_ended(pid, timeout):
            raise WaitTimeout(f"the executor (pid {pid}) still lives after {timeout:g} s\n{self.describe()}")
        while True:
            executor = self.executor
            if executor.state == agent_pb2.EXECUTOR_STATE_TERMINATED:
                return executor
            if time.monotonic() >= deadline:
                raise WaitTimeout(f"the agent has not noticed the end of pid {pid}\n{self.describe()}")
            # The agent gets to know it at the same moment as this process, and cleans up first: some milliseconds.
            time.sleep(0.005)

    def kill(self, grace: float | None = None) -> bool:
        """Sends KILL, with a grace period of `grace` seconds when given.

        Returns:
            It was written to the executor's stream. False: the task is over or undelivered, or there is no stream.

        Raises:
            AgentError: no answer.
        """
        return self._agent.kill(self.task_id, grace)

    def shutdown(self) -> bool:
        """Sends SHUTDOWN to the task's executor; the agent destroys it after its grace period.

        Returns:
            It was written to the executor's stream.

        Raises:
            AgentError: no answer; NOT_FOUND: the executor is over.
        """
        return self._agent.shutdown(self.framework_id, self.executor_id)

    def message(self, data: bytes | str) -> bool:
        """Sends MESSAGE to the task's executor.

        Returns:
            It was written to the executor's stream; without one it is lost.

        Raises:
            AgentError: no answer; NOT_FOUND: the executor is over.
        """
        return self._agent.message(self, data)

    def describe(self, *, output: bool = True) -> str:
        """Updates, state of the executor, what the agent has refused of it, and the end of its output; for people."""
        lines = [f"updates of task {self.task_id} so far:", *report.update_lines(self.updates)]
        lines += self._executor_lines()
        if output:
            lines += report.output_lines(self.sandbox)
        return "\n".join(lines)

    def close(self) -> None:
        """Waits for the thread that collects the updates; the agent's connection must be closed."""
        self._thread.join()

    def _follow(self) -> None:
        client = self._agent.client
        try:
            for update in client.watch(self.task_id, since=self._since, ended=self._agent.ended):
                with self._changed:
                    self._received.append(update)
                    self._changed.notify_all()
        except (AgentError, AgentDied) as error:
            with self._changed:
                self._trouble = str(error)
                self._changed.notify_all()

    def _read(self, name: str) -> str:
        if self.sandbox == report.NO_SANDBOX:
            return ""
        try:
            return (self.sandbox / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _executor_lines(self) -> list[str]:
        try:
            answer = self._agent.client.ask("ListExecutors", agent_pb2.ListExecutorsRequest(), timeout=2.0)
        except (AgentError, AgentDied, ValueError) as error:
            return [f"the executor is unknown ({str(error).splitlines()[0]})"]
        row = next((row for row in answer.executors if row.container_id == self.container_id), None)
        if row is None:
            return ["the executor is forgotten by the agent", *report.mistake_lines(None, answer.refusals)]
        return [f"the executor is {report.executor_words(row)}", *report.mistake_lines(row, answer.refusals)]
