"""Plays the executor's side of a recording against our agent and compares what comes back.

Normalised: Date, container ids, port and pids; ids and times of statuses that the agent makes itself; the order of
acknowledgements of different tasks. Orders of the scheduler (LAUNCH, KILL, SHUTDOWN) are given just before the event
that they caused in the recording.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.conformance import statuses
from tests.conformance.client import Client
from tests.conformance.recording import Event, Recording, Response, Row, Unit
from tests.integration.local_agent_rig import AgentUnderTest, alive, wait_gone
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT = 20.0
_EVENT = executor_pb2.Event
_LIVE = {agent_pb2.EXECUTOR_STATE_REGISTERING, agent_pb2.EXECUTOR_STATE_RUNNING}


@dataclass
class Flow:
    """How a recording is played. Notes are matched by their beginning."""

    # Connections that are left out, with the reason.
    skipped: dict[str, str] = field(default_factory=dict)
    # Launched at the start although the recording shows no LAUNCH event for them.
    launched_first: tuple[str, ...] = ()
    at_note: dict[str, Callable[[Player], None]] = field(default_factory=dict)
    # The replay ends at this note, with the reason.
    until: tuple[str, str] = ("", "")
    flags: tuple[str, ...] = ()
    # The executor outlives the agent's destroy, as with Mesos' posix launcher.
    orphan: bool = False
    # Tasks whose statuses are not compared, with the reason.
    uncompared_tasks: dict[str, str] = field(default_factory=dict)


class Player:
    """One replay."""

    def __init__(self, recording: Recording, flow: Flow, directory: Path) -> None:
        self.recording = recording
        self.flow = flow
        self.clients: dict[str, Client] = {}
        self.closed: set[str] = set()
        self.launched: list[str] = []
        self.containers: dict[str, str] = {}
        self.pids: dict[str, int] = {}
        # Identities of the recorded LAUNCH events whose order has been given.
        self.given: set[int] = set()
        self.end = len(recording.rows)
        flags = ["--hostname", "agent1.example", "--resources", "cpus:4;mem:4096;disk:4096;ports:[31000-32000]"]
        for option, flag in (
            ("registration_timeout", "--executor-registration-timeout"),
            ("reregistration_timeout", "--executor-reregistration-timeout"),
            ("recovery_timeout", "--recovery-timeout"),
            ("grace", "--executor-shutdown-grace-period"),
        ):
            if option in recording.options:
                flags += [flag, recording.options[option]]
        flags += flow.flags
        self.agent = AgentUnderTest(directory, *flags)
        subscribed = [event.subscribed for event in recording.events if event.type == _EVENT.SUBSCRIBED]
        self.framework = subscribed[0].framework_info if subscribed else _framework(recording)
        self.agent_id = recording.environment["MESOS_SLAVE_ID"]
        self.agent.pretend_agent_id(self.agent_id)

    def play(self) -> None:
        with self.agent:
            for task in self._first_tasks():
                self.launch(task)
            self._check_environment()
            for index, row in enumerate(self.recording.rows):
                if self.flow.until[0] and row.note.startswith(self.flow.until[0]):
                    self.end = index
                    break
                self._row(index, row)
            skipped = set(self.flow.uncompared_tasks)
            statuses.check(self.agent, self.recording, self.end, self.launched, skipped)
            for client in self.clients.values():
                client.socket.close()
            if self.flow.orphan:
                os.kill(self.pids["shim"], signal.SIGKILL)
                wait_gone(self.pids["shim"])

    def launch(self, task: mesos_pb2.TaskInfo) -> None:
        self.launched.append(task.task_id.value)
        response = self.agent.launch(task, self.framework)
        assert response.agent_id == self.agent_id
        assert response.framework_id == self.framework.id.value
        executor_id = task.executor.executor_id.value
        self.pids[executor_id] = self.agent.executor(executor_id).pid
        self.containers[executor_id] = response.container_id

    def _first_tasks(self) -> list[mesos_pb2.TaskInfo]:
        """Those whose LAUNCH follows a first SUBSCRIBED directly, and those that the flow names."""
        tasks: list[mesos_pb2.TaskInfo] = []
        subscribed: set[str] = set()
        following: set[str] = set()
        for index, units in sorted(self.recording.units.items()):
            connection = self.recording.rows[index].connection
            for unit in units:
                if not isinstance(unit, Event):
                    continue
                event = unit.message()
                executor_id = event.subscribed.executor_info.executor_id.value
                if event.type == _EVENT.SUBSCRIBED and executor_id not in subscribed:
                    subscribed.add(executor_id)
                    following.add(connection)
                elif event.type == _EVENT.LAUNCH and connection in following:
                    tasks.append(event.launch.task)
                    self.given.add(id(unit))
                else:
                    following.discard(connection)
        known = {task.task_id.value: task for task in tasks}
        first = list({task.task_id.value: task for task in tasks}.values())
        for task_id in self.flow.launched_first:
            if task_id not in known:
                first.append(self.another_task(task_id, first))
        return first

    def another_task(self, task_id: str, like: list[mesos_pb2.TaskInfo] | None = None) -> mesos_pb2.TaskInfo:
        """A task of which the recording shows no LAUNCH."""
        launched = [event.launch.task for event in self.recording.events if event.type == _EVENT.LAUNCH]
        task = mesos_pb2.TaskInfo()
        templates = [*(like or []), *launched]
        if templates:
            task.CopyFrom(templates[0])
        else:
            task.executor.executor_id.value = "shim"
            task.executor.command.shell = False
            task.executor.command.value = "/bin/sleep"
            task.executor.command.arguments.extend(["trivet-shim", "86400"])
            task.agent_id.value = self.agent_id
        task.name = task.task_id.value = task_id
        return task

    def _check_environment(self) -> None:
        executor_id = self.recording.environment["MESOS_EXECUTOR_ID"]
        data = b""
        while not data:
            # A few microseconds long it is still empty: the kernel lets the parent go on in the middle of exec.
            with open(f"/proc/{self.pids[executor_id]}/environ", "rb") as file:
                data = file.read()
        pairs = [entry.decode().split("=", 1) for entry in data.split(b"\0") if entry]
        ours = {name: self._normalise_text(value) for name, value in pairs}
        theirs = {name: self._normalise_text(value) for name, value in self.recording.environment.items()}
        assert ours == theirs, sorted(set(ours.items()) ^ set(theirs.items()))

    def _normalise_text(self, text: str) -> str:
        text = re.sub(r"^.*/slaves/", "/slaves/", text)
        text = re.sub(r"/runs/[0-9a-f-]{36}", "/runs/CONTAINER", text)
        return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)

    def _row(self, index: int, row: Row) -> None:
        if row.connection in self.flow.skipped:
            return
        if row.kind == "note":
            self._note(row.note)
        elif row.kind == "executor->agent":
            self._send(index, row)
        elif row.kind == "close" and "executor" in row.note and row.connection in self.clients:
            self.closed.add(row.connection)
            self.clients[row.connection].socket.close()
        elif index in self.recording.units and row.connection in self.clients and row.connection not in self.closed:
            for unit in self.recording.units[index]:
                self._expect(row.connection, unit)

    def _note(self, note: str) -> None:
        for beginning, action in self.flow.at_note.items():
            if note.startswith(beginning):
                action(self)
                return
        if note in {"agent: SIGKILL", "agent: SIGTERM"}:
            self.agent.end(signal.SIGKILL if note.endswith("KILL") else signal.SIGTERM)
            # Connections to the old process are over, whatever the recording still shows of them.
            self.closed |= set(self.clients)
        elif note.startswith("agent: started again"):
            self.agent.flags += ["--port", str(self.agent.port)]
            self.agent.start()
        elif note.startswith(("SIGKILL to the executor process", "executor process ends after")):
            os.kill(self.pids["shim"], signal.SIGKILL)
            self.agent.wait_ended("shim")
        elif note.startswith("executor process is dead"):
            self.agent.wait_ended("shim")
        elif "process alive: True" in note or note.startswith("executor process still alive"):
            assert alive(self.pids["shim"])

    def _send(self, index: int, row: Row) -> None:
        answers = self.recording.answers(row.connection)
        if row.connection not in self.clients:
            if not answers or answers == [503]:
                # Refused, or in the milliseconds before the window: how often that is seen depends on the machine.
                return
            self.clients[row.connection] = Client(self.agent.port)
        if b"SUBSCRIBE" not in row.data[:2000] and self._answer_after(index) == 202 and b"HEARTBEAT" not in row.data:
            self.agent.wait_ready()
        data = row.data
        for theirs, ours in self._container_ids().items():
            data = data.replace(theirs.encode(), ours.encode())
        self.clients[row.connection].socket.sendall(data)

    def _container_ids(self) -> dict[str, str]:
        """Recorded ids and ours, which have the same length."""
        subscribed = [event.subscribed for event in self.recording.events if event.type == _EVENT.SUBSCRIBED]
        return {body.container_id.value: self.containers[body.executor_info.executor_id.value] for body in subscribed}

    def _answer_after(self, index: int) -> int:
        connection = self.recording.rows[index].connection
        for later in range(index + 1, len(self.recording.rows)):
            if self.recording.rows[later].connection == connection:
                for unit in self.recording.units.get(later, []):
                    if isinstance(unit, Response):
                        return unit.status
        return 0

    def _expect(self, connection: str, unit: Unit) -> None:
        if isinstance(unit, Event):
            client = self.clients[connection]
            if not client.fresh_stream:
                # What comes first is the answer to SUBSCRIBE and nobody's order.
                self._give_order(unit)
            client.fresh_stream = False
            ours = self.clients[connection].take(lambda found: self._same(found, unit))
            assert self._same(ours, unit), (connection, ours, unit)
            return
        ours = self.clients[connection].take(lambda found: type(found) is type(unit))
        assert ours == unit, (connection, ours, unit)
        if isinstance(unit, Response) and b"chunked" in unit.head:
            self.clients[connection].fresh_stream = True

    def _same(self, ours: Unit, theirs: Event) -> bool:
        if not isinstance(ours, Event) or not ours.single or ours.content_type != theirs.content_type:
            return False
        return ours.payload == self._with_our_ids(theirs)

    def _with_our_ids(self, theirs: Event) -> bytes:
        event = theirs.message()
        if event.type != _EVENT.SUBSCRIBED:
            return theirs.payload
        executor_id = event.subscribed.executor_info.executor_id.value
        container = event.subscribed.container_id.value.encode()
        payload = theirs.payload.replace(container, self.containers[executor_id].encode())
        if theirs.content_type == "application/json":
            return payload.replace(b'"port":%d' % event.subscribed.agent_info.port, b'"port":%d' % self.agent.port)
        event = _EVENT.FromString(payload)
        event.subscribed.agent_info.port = self.agent.port
        return event.SerializeToString()

    def _give_order(self, unit: Event) -> None:
        event = unit.message()
        if event.type in {_EVENT.KILL, _EVENT.SHUTDOWN, _EVENT.LAUNCH}:
            self.agent.wait_ready()
        if event.type == _EVENT.KILL:
            request_policy = event.kill.kill_policy if event.kill.HasField("kill_policy") else None
            seconds = request_policy.grace_period.nanoseconds / 1e9 if request_policy is not None else None
            assert self.agent.kill(event.kill.task_id.value, seconds).sent
        elif event.type == _EVENT.SHUTDOWN:
            for executor in self.agent.executors():
                if executor.state in _LIVE:
                    self.agent.shut_down(executor.framework_id, executor.executor_id)
        elif event.type == _EVENT.LAUNCH and id(unit) not in self.given:
            self.given.add(id(unit))
            self.launch(event.launch.task)


def _framework(recording: Recording) -> mesos_pb2.FrameworkInfo:
    """For recordings without SUBSCRIBED: as all the others have it."""
    info = mesos_pb2.FrameworkInfo(
        user="root", name="trace", checkpoint=recording.environment["MESOS_CHECKPOINT"] == "1"
    )
    info.id.value = recording.environment["MESOS_FRAMEWORK_ID"]
    info.roles.append("*")
    capability = mesos_pb2.FrameworkInfo.Capability
    for kind in (capability.MULTI_ROLE, capability.TASK_KILLING_STATE, capability.PARTITION_AWARE):
        info.capabilities.add().type = kind
    return info
