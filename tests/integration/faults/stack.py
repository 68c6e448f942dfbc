"""A whole stack of real processes under the test's hands: agent, services, executors, tasks.

Nothing here waits for time to pass: tasks wait on FIFOs ("gates") that the test opens, statuses come from watch
streams, and deaths are awaited through pidfds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesos.v1 import mesos_pb2
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SERVICES = ("runner", "health", "reporter")
TIMEOUT = 30.0
TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE"}


class Part:
    """One process that the test started."""

    def __init__(self, name: str, argv: Sequence[str], log: str) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def send(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(TIMEOUT)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signum)
        return self.process.wait(TIMEOUT)


class Gate:
    """A FIFO on which a process of the task waits (`cat GATE`) or reports (`echo ... > GATE`)."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
        # Both ends open: neither side ever sees end-of-file or blocks in open().
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._buffer = b""

    def open(self, text: str = "go") -> None:
        os.write(self._fd, text.encode() + b"\n")

    def read(self, timeout: float = TIMEOUT) -> str:
        """The next line that a process wrote."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"nothing came through {self.path}"
            self._buffer += os.read(self._fd, 4096)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._fd)


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

        def found() -> bool:
            return any(status.state == number for status in self._statuses)

        with self._changed:
            assert self._changed.wait_for(found, timeout), f"no {state}, only {self._names()}; {self.stack.where()}"
            return next(status for status in self._statuses if status.state == number)

    def wait_end(self, timeout: float = TIMEOUT) -> str:
        """Until a terminal status; returns its state."""
        with self._changed:
            over = self._changed.wait_for(lambda: any(name in TERMINAL for name in self._names()), timeout)
            assert over, f"not over, only {self._names()}; {self.stack.where()}"
            return next(name for name in self._names() if name in TERMINAL)

    def wait_accepted(self, state: str) -> None:
        """Until the driver has a status of that state in its outbox, whether or not the agent is there."""
        number = mesos_pb2.TaskState.Value(state)
        stub = reporter_pb2_grpc.ReporterServiceStub(self.stack.channel("reporter-admin"))
        request = reporter_pb2.WatchTaskStatusesRequest(task_id=self.task_id)
        for reply in stub.WatchTaskStatuses(request, timeout=TIMEOUT, wait_for_ready=True):
            for entry in reply.task.statuses:
                if entry.status.state == number and entry.delivery >= reporter_pb2.DELIVERY_ACCEPTED:
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


class Stack:
    """Agent and services in a directory of their own."""

    def __init__(
        self, agent_flags: Sequence[str] = (), start: Sequence[str] = SERVICES, *, with_agent: bool = True
    ) -> None:
        self.dir = tempfile.mkdtemp(prefix="tvt-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.run_dir = f"{self.dir}/run"
        self.closed = False
        self._channels: dict[str, grpc.Channel] = {}
        self._gates: list[Gate] = []
        self._count = 0
        os.mkdir(self.run_dir)
        self.parts = {name: self._service(name) for name in SERVICES}
        agent = [sys.executable, "-m", "services.local_agent", "--work-dir", f"{self.dir}/agent", "--run-dir"]
        self.parts["agent"] = Part("agent", [*agent, self.run_dir, *agent_flags], f"{self.dir}/agent.log")
        first = ("agent", *start) if with_agent else tuple(start)
        for name in first:
            self.parts[name].start()
        for name in first:
            self.ready(name)

    def _service(self, name: str) -> Part:
        argv = [sys.executable, "-m", f"services.{name}", "--run-dir", self.run_dir]
        return Part(name, [*argv, "--state-dir", f"{self.dir}/state/{name}"], f"{self.dir}/{name}.log")

    def where(self) -> str:
        return f"logs in {self.dir}"

    def channel(self, name: str) -> grpc.Channel:
        if name not in self._channels:
            options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
            self._channels[name] = grpc.insecure_channel(f"unix:{self.run_dir}/{name}.sock", options=options)
        return self._channels[name]

    def ready(self, name: str) -> None:
        """Until a part serves."""
        stub = health_pb2_grpc.HealthStub(self.channel("agent" if name == "agent" else f"{name}-admin"))
        while True:
            try:
                for reply in stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=TIMEOUT):
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.RpcError as error:
                # The channel has not noticed yet that the process before this one is gone.
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    def restart(self, name: str) -> None:
        """SIGKILL and a new process."""
        self.parts[name].kill()
        self.parts[name].start()
        self.ready(name)

    def gate(self) -> Gate:
        self._count += 1
        gate = Gate(f"{self.dir}/gate{self._count}")
        self._gates.append(gate)
        return gate

    def launch(
        self,
        task: dict[str, Any],
        *,
        ports: dict[str, int] | None = None,
        checkpoint: bool = True,
        executor: str = "",
        shutdown_grace: float | None = None,
        options: Sequence[str] = (),
        kill_grace: float | None = None,
        watch: bool = True,
        task_id: str = "",
    ) -> LaunchedTask:
        self._count += 1
        task_id = task_id or f"task-{self._count}"
        info = mesos_pb2.TaskInfo(name=task_id, data=json.dumps(task).encode())
        info.task_id.value = task_id
        info.agent_id.value = ""
        info.executor.executor_id.value = executor or f"executor-{self._count}"
        info.executor.command.shell = False
        info.executor.command.value = f"{os.path.dirname(sys.executable)}/trivet-executor"
        info.executor.command.arguments.extend(["trivet-executor", "--services", self.run_dir, *options])
        if shutdown_grace is not None:
            info.executor.shutdown_grace_period.nanoseconds = int(shutdown_grace * 1e9)
        if kill_grace is not None:
            info.kill_policy.grace_period.nanoseconds = int(kill_grace * 1e9)
        for name, number in (ports or {}).items():
            info.discovery.ports.ports.add(name=name, number=number)
        if ports:
            info.discovery.visibility = mesos_pb2.DiscoveryInfo.CLUSTER
        framework = mesos_pb2.FrameworkInfo(user="root", name="test", checkpoint=checkpoint)
        framework.capabilities.add(type=mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE)
        stub = agent_pb2_grpc.LocalAgentServiceStub(self.channel("agent"))
        reply = stub.LaunchTask(agent_pb2.LaunchTaskRequest(task=info, framework=framework), timeout=TIMEOUT)
        return LaunchedTask(self, task_id, info.executor.executor_id.value, reply, watch=watch)

    def close(self, *, keep: bool = False) -> None:
        """Ends everything, and fails when anything of any task is still there."""
        self.closed = True
        for name in ("agent", *SERVICES):
            part = self.parts[name]
            if part.process is not None:
                # SIGINT makes the agent destroy its containers first.
                part.stop(signal.SIGINT if name == "agent" else signal.SIGTERM)
        for channel in self._channels.values():
            channel.close()
        for gate in self._gates:
            gate.close()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not leftovers(self.dir), "no process left", 5.0)
        left = leftovers(self.dir)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left: {left}; {self.where()}"
        if not keep:
            shutil.rmtree(self.dir)


def wait_until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """For facts of /proc, which cannot be waited for otherwise."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {what}")
        pause.wait(0.01)
    return value


def wait_dead(pid: int, timeout: float = TIMEOUT) -> None:
    """Until a process that is not our child is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([fd], [], [], timeout)
        assert ready, f"process {pid} lives on: {command_line(pid)}"
    finally:
        os.close(fd)


def children_of(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def command_line(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def start_ticks(pid: int) -> int:
    """Identifies a process together with its pid; 0 when it is gone or a zombie."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] not in {b"Z", b"X"} else 0


def leftovers(directory: str) -> dict[int, str]:
    """Processes that have to do with a stack: by command line, environment or working directory."""
    name = directory.encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid() or not start_ticks(int(entry)):
            continue
        pid = int(entry)
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            cwd = b""
        if name in _read(pid, "cmdline") or name in _read(pid, "environ") or name in cwd:
            found[pid] = command_line(pid)
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
