"""A launched task: what the scheduler hears of it, its processes, and the orders that it gets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc

from mesos.v1 import mesos_pb2
from tests.integration.faults.processes import TIMEOUT, children_of, command_line, wait_until
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.faults.stack import Stack

TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE"}


class LaunchedTask:
    """A task and what the scheduler hears of it."""

    def __init__(
        self, stack: Stack, task_id: str, executor_id: str, launched: agent_pb2.LaunchTaskResponse, *, watch: bool
    ) -> None:
        self.stack = stack
        self.task_id = task_id
        self.executor_id = executor_id
        self.sandbox = launched.sandbox
        # When LAUNCH went to the executor, CLOCK_MONOTONIC; 0: the executor was not there yet.
        self.launch_written_at = launched.launch_written_at
        self._statuses: list[mesos_pb2.TaskStatus] = []
        self.received_at: list[float] = []
        self._kill_written_at = 0.0
        self._changed = threading.Condition()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        if watch:
            self.watch()

    def watch(self) -> None:
        """Begins to listen."""
        self._watcher.start()

    def _watch(self) -> None:
        while not self.stack.closed:
            try:
                stub = agent_pb2_grpc.LocalAgentServiceStub(self.stack.channel("agent"))
                request = agent_pb2.WatchTaskRequest(task_id=self.task_id)
                for seen, update in enumerate(stub.WatchTask(request, wait_for_ready=True), 1):
                    with self._changed:
                        self._kill_written_at = update.kill_written_at
                        # After its restart the agent tells everything again.
                        if seen > len(self._statuses):
                            self._statuses.append(update.status)
                            self.received_at.append(update.received_at)
                            self._changed.notify_all()
            except grpc.RpcError:
                continue

    @property
    def statuses(self) -> list[mesos_pb2.TaskStatus]:
        with self._changed:
            return list(self._statuses)

    @property
    def states(self) -> list[str]:
        return [mesos_pb2.TaskState.Name(status.state) for status in self.statuses]

    def wait_for(self, state: str, timeout: float = TIMEOUT) -> mesos_pb2.TaskStatus:
        """Until the scheduler has got a status of that state."""
        number = mesos_pb2.TaskState.Value(state)
        return self.wait_status(lambda status: status.state == number, state, timeout)

    def wait_status(
        self, wanted: Callable[[mesos_pb2.TaskStatus], bool], what: str, timeout: float = TIMEOUT, after: int = 0
    ) -> mesos_pb2.TaskStatus:
        """Until the scheduler has got such a status, besides the first `after` ones."""

        def found() -> bool:
            return any(map(wanted, self._statuses[after:]))

        with self._changed:
            assert self._changed.wait_for(found, timeout), f"no {what}, only {self._names()}; {self.stack.where()}"
            return next(filter(wanted, self._statuses[after:]))

    def wait_end(self, timeout: float = TIMEOUT) -> str:
        """Until a terminal status; returns its state."""
        with self._changed:
            over = self._changed.wait_for(lambda: any(name in TERMINAL for name in self._names()), timeout)
            assert over, f"not over, only {self._names()}; {self.stack.where()}"
            return next(name for name in self._names() if name in TERMINAL)

    def wait_accepted(self, state: str) -> None:
        """Until the driver has a status of that state in its outbox, whether or not the agent is there."""
        self._wait_delivery(state, reporter_pb2.DELIVERY_ACCEPTED)

    def wait_acknowledged(self, state: str) -> None:
        """Until the agent has acknowledged a status of that state to the driver."""
        self._wait_delivery(state, reporter_pb2.DELIVERY_ACKNOWLEDGED)

    def _wait_delivery(self, state: str, delivery: int) -> None:
        number = mesos_pb2.TaskState.Value(state)
        stub = reporter_pb2_grpc.ReporterServiceStub(self.stack.channel("reporter-admin"))
        request = reporter_pb2.WatchTaskStatusesRequest(task_id=self.task_id)
        for reply in stub.WatchTaskStatuses(request, timeout=TIMEOUT, wait_for_ready=True):
            for entry in reply.task.statuses:
                if entry.status.state == number and entry.delivery >= delivery:
                    return

    def _names(self) -> list[str]:
        return [mesos_pb2.TaskState.Name(status.state) for status in self._statuses]

    def kill_written_at(self) -> float:
        """When the newest KILL went to the executor, CLOCK_MONOTONIC."""
        return self._kill_written_at

    def kill(self, grace: float | None = None) -> bool:
        request = agent_pb2.KillTaskRequest(task_id=self.task_id)
        if grace is not None:
            request.kill_policy.grace_period.nanoseconds = int(grace * 1e9)
        stub = agent_pb2_grpc.LocalAgentServiceStub(self.stack.channel("agent"))
        return bool(stub.KillTask(request, timeout=TIMEOUT, wait_for_ready=True).sent)

    def shutdown(self) -> None:
        executor = self.executor()
        stub = agent_pb2_grpc.LocalAgentServiceStub(self.stack.channel("agent"))
        stub.ShutdownExecutor(
            agent_pb2.ShutdownExecutorRequest(framework_id=executor.framework_id, executor_id=self.executor_id),
            timeout=TIMEOUT,
        )

    def executor(self) -> agent_pb2.Executor:
        stub = agent_pb2_grpc.LocalAgentServiceStub(self.stack.channel("agent"))
        executors = stub.ListExecutors(agent_pb2.ListExecutorsRequest(), timeout=TIMEOUT, wait_for_ready=True).executors
        found: list[agent_pb2.Executor] = [entry for entry in executors if entry.executor_id == self.executor_id]
        return found[-1]

    def coordinator(self) -> int:
        return self.executor().pid

    def driver(self) -> int:
        """pid of the living driver: the coordinator's child whose command line says so."""
        pid: int = wait_until(lambda: self._driver(self.coordinator()), "a driver")
        return pid

    @staticmethod
    def _driver(coordinator: int) -> int:
        for pid in children_of(coordinator):
            if "executor_shim.driver" in command_line(pid):
                return pid
        return 0

    def runs(self) -> dict[str, list[runner_pb2.ProcessRun]]:
        """The runner's record of every run, by process."""
        stub = runner_pb2_grpc.RunnerServiceStub(self.stack.channel("runner-admin"))
        reply = stub.GetTask(runner_pb2.GetTaskRequest(task_id=self.task_id), timeout=TIMEOUT, wait_for_ready=True)
        found: dict[str, list[runner_pb2.ProcessRun]] = {}
        for run in reply.runs:
            found.setdefault(run.process, []).append(run)
        return found
