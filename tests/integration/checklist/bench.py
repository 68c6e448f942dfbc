"""A test bench: agent, services, and a wiretap between the agent and the executors.

Everything is real: `trivet-executor` with runner, health and reporter, against the local agent, whose faults provoke
what an item of the checklist is about.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.checklist.wiretap import Call, Wiretap
from tests.integration.faults.processes import TIMEOUT
from tests.integration.faults.stack import Stack
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc, faults_pb2, faults_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.parts import Gate

TERMINAL_STATES = {2, 3, 4, 5, 7, 9, 11, 12}


class Bench:
    """Use as a context manager; nothing is left after it."""

    def __init__(self, *agent_flags: str, start: Sequence[str] = ("runner", "health", "reporter")) -> None:
        self.stack = Stack(agent_flags, start)
        self.agent = agent_pb2_grpc.LocalAgentServiceStub(self.stack.channel("agent"))
        self.faults = faults_pb2_grpc.FaultServiceStub(self.stack.channel("agent"))
        # The agent's port is the same over restarts.
        self._port = int(self.description()["port"])
        self.tap = Wiretap(lambda: ("127.0.0.1", self._port))

    def description(self) -> dict[str, Any]:
        """What the agent says of itself."""
        with open(f"{self.stack.run_dir}/agent.json") as file:
            found: dict[str, Any] = json.load(file)
        return found

    def close(self, *, keep: bool = False) -> None:
        self.stack.close(keep=keep)
        self.tap.close()

    # Tasks

    def gate(self) -> Gate:
        return self.stack.gate()

    def launch(
        self,
        task: dict[str, Any],
        *,
        environ: dict[str, str] | None = None,
        edit: Callable[[mesos_pb2.TaskInfo], object] | None = None,
        **how: Any,
    ) -> LaunchedTask:
        """As `Stack.launch`, with the executor behind the wiretap. `environ`: the framework's, which wins."""

        def wired(info: mesos_pb2.TaskInfo) -> None:
            self.wire(info.executor, environ)
            if edit is not None:
                edit(info)

        return self.stack.launch(task, edit=wired, **how)

    def wire(self, executor: mesos_pb2.ExecutorInfo, environ: dict[str, str] | None = None) -> None:
        """The executor's environment as the framework sets it."""
        variables = {"MESOS_AGENT_ENDPOINT": self.tap.endpoint} if environ is None else environ
        for name, value in variables.items():
            executor.command.environment.variables.add(name=name, value=value)

    def sleeper(self, **how: Any) -> Sleeper:
        """A task that runs until it is killed; returns when the scheduler has heard RUNNING."""
        return Sleeper(self, **how)

    # Faults and orders

    def fault(self, **fields: Any) -> str:
        """Puts a fault into force; fields as in `trivet.agent.v1.Fault`."""
        fault = json_format.ParseDict(fields, faults_pb2.Fault())
        return str(self.faults.AddFault(faults_pb2.AddFaultRequest(fault=fault), timeout=TIMEOUT).id)

    def strikes(self, fault_id: str) -> int:
        """How often a fault has struck."""
        listed = self.faults.ListFaults(faults_pb2.ListFaultsRequest(), timeout=TIMEOUT).faults
        return next(int(entry.strikes) for entry in listed if entry.fault.id == fault_id)

    def mend(self, fault_id: str = "") -> None:
        """Takes a fault away, or all."""
        self.faults.RemoveFaults(faults_pb2.RemoveFaultsRequest(id=fault_id), timeout=TIMEOUT)

    def restart_agent(self, *, kill: bool = True, gap: float = 0.0, **phases: float) -> None:
        """The agent goes, and comes back after a gap; returns at once."""
        how = faults_pb2.RESTART_HOW_KILL if kill else faults_pb2.RESTART_HOW_TERM
        self.faults.RestartAgent(
            faults_pb2.RestartAgentRequest(how=how, gap_seconds=gap, **phases), timeout=TIMEOUT, wait_for_ready=True
        )

    def send_message(self, framework_id: str, executor_id: str, data: bytes = b"hello") -> bool:
        """MESSAGE to an executor: an event that none of ours acts on."""
        request = agent_pb2.SendMessageRequest(framework_id=framework_id, executor_id=executor_id, data=data)
        return bool(self.agent.SendMessage(request, timeout=TIMEOUT).sent)

    def log_of(self, task: LaunchedTask) -> str:
        """What the executor has written to stderr."""
        with open(f"{task.sandbox}/stderr", errors="replace") as file:
            return file.read()


class Sleeper:
    """`sleep 600` in a task, with its pid."""

    def __init__(
        self, bench: Bench, *, command: str = "exec sleep 600", mesos: dict[str, Any] | None = None, **how: Any
    ) -> None:
        gate = bench.gate()
        definition = {"processes": [{"name": "p", "cmdline": f"echo $$ > {gate.path}; {command}"}], **(mesos or {})}
        self.task = bench.launch(definition, **how)
        self.pid = int(gate.read())
        self.task.wait_for("TASK_RUNNING")


# Disregards SIGTERM and lives on.
STUBBORN = "trap '' TERM; while :; do sleep 1; done"
# Obeys SIGTERM with exit status 0.
OBEDIENT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def states(calls: Sequence[Call]) -> list[str]:
    """Of UPDATE calls."""
    return [mesos_pb2.TaskState.Name(call.message.update.status.state) for call in calls]


def statuses(calls: Sequence[Call]) -> list[mesos_pb2.TaskStatus]:
    """Of UPDATE calls."""
    return [call.message.update.status for call in calls]


def terminals(calls: Sequence[Call]) -> list[mesos_pb2.TaskStatus]:
    """The terminal statuses among UPDATE calls, each once however often it was sent."""
    found = {status.uuid: status for status in statuses(calls) if status.state in TERMINAL_STATES}
    return list(found.values())


SUBSCRIBE, UPDATE = executor_pb2.Call.SUBSCRIBE, executor_pb2.Call.UPDATE
