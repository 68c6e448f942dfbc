"""A whole stack of real processes under the test's hands: agent, services, executors, tasks.

Nothing here waits for time to pass: tasks wait on FIFOs ("gates") that the test opens, statuses come from watch
streams, and deaths are awaited through pidfds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesos.v1 import mesos_pb2
from tests.integration.faults.launched import LaunchedTask
from tests.integration.faults.parts import Gate, Part
from tests.integration.faults.processes import TIMEOUT, leftovers, wait_until
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SERVICES = ("runner", "health", "reporter")


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
        try:
            for name in first:
                self.parts[name].start()
            for name in first:
                self.ready(name)
        except BaseException:
            # Whoever waits for a stack cannot close one that he has not got.
            self.close(keep=True)
            raise

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
        capabilities: Sequence[str] = ("PARTITION_AWARE",),
        edit: Callable[[mesos_pb2.TaskInfo], object] | None = None,
    ) -> LaunchedTask:
        """Launches a task; `edit` may change its TaskInfo first."""
        self._count += 1
        task_id = task_id or f"task-{self._count}"
        info = mesos_pb2.TaskInfo(name=task_id, data=json.dumps(task).encode())
        info.task_id.value = task_id
        info.agent_id.value = ""
        info.executor.executor_id.value = executor or f"executor-{self._count}"
        self.fill_executor(info.executor, options)
        if shutdown_grace is not None:
            info.executor.shutdown_grace_period.nanoseconds = int(shutdown_grace * 1e9)
        if kill_grace is not None:
            info.kill_policy.grace_period.nanoseconds = int(kill_grace * 1e9)
        for name, number in (ports or {}).items():
            info.discovery.ports.ports.add(name=name, number=number)
        if ports:
            info.discovery.visibility = mesos_pb2.DiscoveryInfo.CLUSTER
        if edit is not None:
            edit(info)
        framework = framework_info(checkpoint=checkpoint, capabilities=capabilities)
        stub = agent_pb2_grpc.LocalAgentServiceStub(self.channel("agent"))
        reply = stub.LaunchTask(agent_pb2.LaunchTaskRequest(task=info, framework=framework), timeout=TIMEOUT)
        return LaunchedTask(self, task_id, info.executor.executor_id.value, reply, watch=watch)

    def fill_executor(self, executor: mesos_pb2.ExecutorInfo, options: Sequence[str]) -> None:
        """Its command: the real executor."""
        executor.command.shell = False
        executor.command.value = f"{os.path.dirname(sys.executable)}/trivet-executor"
        executor.command.arguments.extend(["trivet-executor", "--services", self.run_dir, *options])

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


def framework_info(*, checkpoint: bool, capabilities: Sequence[str]) -> mesos_pb2.FrameworkInfo:
    """The framework that launches."""
    framework = mesos_pb2.FrameworkInfo(user="root", name="test", checkpoint=checkpoint)
    for name in capabilities:
        framework.capabilities.add(type=mesos_pb2.FrameworkInfo.Capability.Type.Value(name))
    return framework
