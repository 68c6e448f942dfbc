"""A real `trivet-agent` process for tests, and its control API."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesos.v1 import mesos_pb2
from services.local_agent.containers.process_tree import Process, read_process, read_table
from services.local_agent.core import records
from services.local_agent.store import Store
from tests.integration.ready import readable
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMEOUT = 30.0


class AgentUnderTest:
    """Use as a context manager: at its end every process of the agent's executors must be gone."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.work_dir = str(directory / "w")
        self.run_dir = str(directory / "r")
        self.flags = list(flags)
        self.errors = directory / "agent.err"
        self.process: subprocess.Popen[str] | None = None
        self.channel = grpc.insecure_channel(
            f"unix:{self.run_dir}/agent.sock",
            options=[("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)],
        )
        self.stub = agent_pb2_grpc.LocalAgentServiceStub(self.channel)
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        if self.process is not None:
            self.end(signal.SIGINT)
        left = self.processes()
        for row in left:
            # A failed test must not leave them to the others.
            os.kill(row.pid, signal.SIGKILL)
        assert not left, "processes of executors are left"

    def pretend_agent_id(self, agent_id: str) -> None:
        """Before the first start: the agent takes this id for its own."""
        store = Store(self.work_dir)
        store.load()
        store.append([records.AgentStarted(agent_id, "", 0)])
        store.close()

    def command(self) -> list[str]:
        directories = ["--work-dir", self.work_dir, "--run-dir", self.run_dir]
        return [sys.executable, "-m", "services.local_agent", *directories, *self.flags]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Returns when the executor API answers."""
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("trivet-agent ready:"), self.errors.read_text()
        with open(f"{self.run_dir}/agent.json") as file:
            description = json.load(file)
        assert description["pid"] == self.process.pid
        self.port = description["port"]

    def end(self, number: signal.Signals) -> int:
        """Sends a signal to the agent's process and waits for its end."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        assert process.stdout is not None
        process.stdout.close()
        return process.wait(TIMEOUT)

    def signal(self, number: signal.Signals) -> None:
        """The agent gets a signal and goes on."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_end(self) -> int:
        """The agent ends by itself; returns its exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        assert process.stdout is not None
        process.stdout.close()
        return process.wait(TIMEOUT)

    def wait_ready(self) -> None:
        """Returns when recovery is over."""
        health = health_pb2_grpc.HealthStub(self.channel)
        for answer in health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return

    def launch(
        self, task: mesos_pb2.TaskInfo, framework: mesos_pb2.FrameworkInfo | None = None
    ) -> agent_pb2.LaunchTaskResponse:
        request = agent_pb2.LaunchTaskRequest(task=task)
        if framework is not None:
            request.framework.CopyFrom(framework)
        response: agent_pb2.LaunchTaskResponse = self.stub.LaunchTask(request, timeout=TIMEOUT, wait_for_ready=True)
        return response

    def launch_group(
        self,
        executor: mesos_pb2.ExecutorInfo,
        tasks: Sequence[mesos_pb2.TaskInfo],
        framework: mesos_pb2.FrameworkInfo | None = None,
    ) -> agent_pb2.LaunchTaskGroupResponse:
        request = agent_pb2.LaunchTaskGroupRequest(executor=executor, tasks=tasks, framework=framework)
        response: agent_pb2.LaunchTaskGroupResponse = self.stub.LaunchTaskGroup(request, timeout=TIMEOUT)
        return response

    def message(self, framework_id: str, executor_id: str, data: bytes) -> bool:
        request = agent_pb2.SendMessageRequest(framework_id=framework_id, executor_id=executor_id, data=data)
        return bool(self.stub.SendMessage(request, timeout=TIMEOUT).sent)

    def behave(self, **behavior: bool) -> None:
        self.stub.SetBehavior(agent_pb2.SetBehaviorRequest(**behavior), timeout=TIMEOUT)

    def drain(self, max_grace_secs: float | None = None) -> list[str]:
        request = agent_pb2.DrainAgentRequest()
        if max_grace_secs is not None:
            request.max_grace_period.nanoseconds = int(max_grace_secs * 1e9)
        return list(self.stub.DrainAgent(request, timeout=TIMEOUT).task_ids)

    def tear_down(self, framework_id: str) -> None:
        self.stub.TearDown(agent_pb2.TearDownRequest(framework_id=framework_id), timeout=TIMEOUT)

    def acknowledge(self, task_id: str, uuid: bytes = b"") -> bytes:
        request = agent_pb2.AcknowledgeUpdateRequest(task_id=task_id, uuid=uuid)
        return bytes(self.stub.AcknowledgeUpdate(request, timeout=TIMEOUT).uuid)

    def kill(self, task_id: str, grace_secs: float | None = None) -> agent_pb2.KillTaskResponse:
        request = agent_pb2.KillTaskRequest(task_id=task_id)
        if grace_secs is not None:
            request.kill_policy.grace_period.nanoseconds = int(grace_secs * 1e9)
        response: agent_pb2.KillTaskResponse = self.stub.KillTask(request, timeout=TIMEOUT)
        return response

    def shut_down(self, framework_id: str, executor_id: str) -> bool:
        request = agent_pb2.ShutdownExecutorRequest(framework_id=framework_id, executor_id=executor_id)
        return bool(self.stub.ShutdownExecutor(request, timeout=TIMEOUT).sent)

    def executors(self) -> list[agent_pb2.Executor]:
        return list(self.stub.ListExecutors(agent_pb2.ListExecutorsRequest(), timeout=TIMEOUT).executors)

    def executor(self, executor_id: str) -> agent_pb2.Executor:
        """The newest run."""
        runs = [executor for executor in self.executors() if executor.executor_id == executor_id]
        return max(runs, key=lambda executor: executor.launched_at)

    def wait_ended(self, executor_id: str) -> None:
        """Returns when the agent knows that the executor's process has ended."""
        wait_gone(self.executor(executor_id).pid)
        # From the process' end to the agent's knowing it takes some milliseconds.
        deadline = time.monotonic() + TIMEOUT
        while self.executor(executor_id).state != agent_pb2.EXECUTOR_STATE_TERMINATED:
            assert time.monotonic() < deadline, f"executor {executor_id} does not end"

    def watch(self, task_id: str) -> Watch:
        return Watch(self.stub, task_id)

    def statuses(self, task_id: str, count: int) -> list[mesos_pb2.TaskStatus]:
        """The first `count` statuses at the scheduler."""
        with self.watch(task_id) as watch:
            return [watch.next().status for _ in range(count)]

    def processes(self) -> list[Process]:
        """Everything alive that runs in a sandbox of this agent, whatever its session."""
        found = []
        for row in read_table():
            try:
                directory = os.readlink(f"/proc/{row.pid}/cwd")
            except OSError:
                continue
            if directory.startswith(self.work_dir + "/slaves") and row.state not in "ZX":
                found.append(row)
        return found


class Watch:
    """WatchTask; every answer is waited for, none is polled."""

    def __init__(self, stub: agent_pb2_grpc.LocalAgentServiceStub, task_id: str) -> None:
        self._call = stub.WatchTask(agent_pb2.WatchTaskRequest(task_id=task_id))
        self._queue: queue.Queue[agent_pb2.WatchTaskResponse | Exception] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._queue.put(answer)
        except grpc.RpcError as error:
            self._queue.put(error)

    def next(self) -> agent_pb2.WatchTaskResponse:
        answer = self._queue.get(timeout=TIMEOUT)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def empty(self) -> bool:
        """Nothing more has arrived up to now."""
        return self._queue.empty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()
        self._thread.join()


class MessageWatch:
    """WatchMessages of one framework, from the moment of `__enter__` on."""

    def __init__(self, stub: agent_pb2_grpc.LocalAgentServiceStub, framework_id: str) -> None:
        self._stub = stub
        self._request = agent_pb2.WatchMessagesRequest(framework_id=framework_id)
        self._queue: queue.Queue[agent_pb2.WatchMessagesResponse] = queue.Queue()

    def __enter__(self) -> Self:
        self._call = self._stub.WatchMessages(self._request, wait_for_ready=True)
        # Comes when the agent has begun to watch.
        self._call.initial_metadata()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._queue.put(answer)
        except grpc.RpcError as error:
            if error.code() not in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}:
                # Neither the agent's end nor this watch's own.
                raise

    def next(self) -> tuple[str, bytes]:
        """Executor id and data."""
        answer = self._queue.get(timeout=TIMEOUT)
        return answer.executor_id, answer.data

    def empty(self) -> bool:
        """Nothing more has arrived up to now."""
        return self._queue.empty()

    def __exit__(self, *_: object) -> None:
        self._call.cancel()
        self._thread.join()


def wait_gone(pid: int) -> None:
    """Returns when the process has ended (it may still be a zombie)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert readable(pidfd, TIMEOUT), f"process {pid} does not end"
    finally:
        os.close(pidfd)


def alive(pid: int) -> bool:
    row = read_process(pid)
    return row is not None and row.state not in "ZX"


def task_info(task_id: str, command: str = "sleep 1000", executor_id: str = "shim") -> mesos_pb2.TaskInfo:
    """A task whose executor is a shell command."""
    task = mesos_pb2.TaskInfo(name=task_id)
    task.task_id.value = task_id
    task.agent_id.value = "filled in by the agent"
    task.executor.executor_id.value = executor_id
    task.executor.command.value = f"exec {command}" if command.startswith("sleep") else command
    return task
