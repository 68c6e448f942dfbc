"""Plays the executor's side of a recording against our agent and compares what comes back.

Normalised, all of it here, in `identities` and in `statuses`:

    ports, directories, the container id in tokens and with it their signatures
    container ids and pids: those that LaunchTask and ListExecutors give must stand where the recording has its own
    Date, and times that the agent or the master makes: they must lie between the beginning and the end of the replay
    ids of statuses that the agent or the master makes itself
    the order of acknowledgements among each other, of a 202 and its acknowledgement (other connections), and of an
    acknowledgement and the next SUBSCRIBE
    answers in the milliseconds between the agent's start and the re-registration window
    what the agent sends to the scheduler again until it acknowledges: counted once

At the end there must be nothing on any connection that the recording does not show.

Orders of the scheduler (LAUNCH, KILL, MESSAGE, SHUTDOWN) are given just before the event that they caused in the
recording, unless the flow gives them at a note.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesos.v1.executor import executor_pb2
from tests.conformance import identities, orders, stage, statuses
from tests.conformance.client import Client
from tests.conformance.identities import Identities
from tests.conformance.recording import Event, Recording, Response, Row, Unit
from tests.integration.local_agent.linux_containers import LinuxAgent
from tests.integration.local_agent.rig import AgentUnderTest, MessageWatch, alive, wait_gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EVENT = executor_pb2.Event


@dataclass
class Flow:
    """How a recording is played. Notes are matched by their beginning."""

    # Connections that are left out, with the reason.
    skipped: dict[str, str] = field(default_factory=dict)
    # Launched at the start although the recording shows no LAUNCH event for them.
    launched_first: tuple[str, ...] = ()
    at_start: Callable[[Player], None] | None = None
    at_note: dict[str, Callable[[Player], None]] = field(default_factory=dict)
    # Types of events whose orders the notes give.
    ordered_by_note: frozenset[int] = frozenset()
    flags: tuple[str, ...] = ()
    # The agent needs a key for tokens; the recording's is not known.
    needs_key: bool = False
    # Connections on which the agent dies instead of answering.
    unanswered: frozenset[str] = frozenset()
    # The executor outlives the agent's destroy, as with Mesos' posix launcher.
    orphan: bool = False
    # The agent's process is over at the end of the recording.
    agent_ends: bool = False
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
        self.identities = Identities()
        # Identities of the recorded LAUNCH events whose order has been given.
        self.given: set[int] = set()
        # The linux launcher's skips, loudly, where the machine does not allow such containers.
        kind = LinuxAgent if "--launcher=linux" in flow.flags else AgentUnderTest
        self.agent = kind(directory, *stage.flags(recording), *flow.flags)
        if flow.needs_key:
            (directory / "key").write_bytes(b"a key of this test alone, 32 bytes")
            (directory / "key").chmod(0o600)
            self.agent.flags += ["--jwt-secret-key", str(directory / "key")]
        subscribed = [event.subscribed for event in recording.events if event.type == _EVENT.SUBSCRIBED]
        self.framework = subscribed[0].framework_info if subscribed else stage.framework(recording)
        self.agent_id = recording.environment["MESOS_SLAVE_ID"]
        self.agent.pretend_agent_id(self.agent_id)

    def play(self) -> None:
        began = time.time()
        with self.agent, MessageWatch(self.agent.stub, self.framework.id.value) as messages:
            if self.flow.at_start is not None:
                self.flow.at_start(self)
            orders.launch_first(self)
            self._check_environments()
            for index, row in enumerate(self.recording.rows):
                self._row(index, row)
            assert [messages.next() for _ in self.recording.messages] == self.recording.messages
            if self.flow.agent_ends:
                assert self.agent.wait_end() == 0
                self.agent.flags = [flag for flag in self.agent.flags if flag != "--recover=cleanup"]
            ended = self.agent.process is None
            if ended:
                self._check_silence()
                # Only to be asked.
                self.agent.start()
            self._learn_containers()
            own = statuses.Own(self.identities, began)
            statuses.check(self.agent, self.recording, self.launched, set(self.flow.uncompared_tasks), own)
            if not ended:
                self._pass_barrier()
                self._check_silence()
            for client in self.clients.values():
                client.socket.close()
            if self.flow.orphan:
                os.kill(self.pids["shim"], signal.SIGKILL)
                wait_gone(self.pids["shim"])

    def restart_agent(self, *flags: str) -> None:
        """On the same port. Connections to the old process are over, whatever the recording still shows of them."""
        self.closed |= set(self.clients)
        self.agent.flags += ["--port", str(self.agent.port), *flags]
        self.agent.start()

    def _pass_barrier(self) -> None:
        """The agent answers in the order of its doing: what it had to say before is on its way when this returns."""
        call = executor_pb2.Call(type=executor_pb2.Call.HEARTBEAT)
        call.executor_id.value = call.framework_id.value = "barrier"
        body = call.SerializeToString()
        head = f"POST /api/v1/executor HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        client = Client(self.agent.port)
        client.socket.sendall(head.encode() + b"Content-Type: application/x-protobuf\r\n\r\n" + body)
        answer = client.take(lambda found: isinstance(found, Response))
        client.socket.close()
        # Without a token.
        expected = 401 if "--authenticate-http-executors" in self.flow.flags else 202
        assert isinstance(answer, Response)
        assert answer.status == expected

    def _check_silence(self) -> None:
        for name, client in self.clients.items():
            if name not in self.closed:
                assert client.unread() == [], name

    def _check_environments(self) -> None:
        for theirs in self.recording.environments:
            executor_id = theirs["MESOS_EXECUTOR_ID"]
            if executor_id not in self.pids:
                # It is launched later; nothing of it is peculiar.
                continue
            ours = stage.environment_of(self.pids[executor_id])
            mine, recorded = identities.environment(ours), identities.environment(theirs)
            assert mine == recorded, sorted(set(mine.items()) ^ set(recorded.items()))
            self.identities.learn_tokens(theirs, ours)

    def _row(self, index: int, row: Row) -> None:
        if row.connection in self.flow.skipped:
            return
        if row.kind == "note":
            self._note(row.note)
        elif row.kind == "connect":
            # The name of a connection that is over may be used again.
            if row.connection in self.closed:
                self.closed.discard(row.connection)
                del self.clients[row.connection]
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
            self.closed |= set(self.clients)
        elif note.startswith("agent: started again"):
            self.restart_agent()
        elif note.startswith(("SIGKILL to the executor process", "executor process ends after")):
            os.kill(self.pids["shim"], signal.SIGKILL)
            self.agent.wait_ended("shim")
        elif note.startswith("executor process is dead"):
            wait_gone(self.pids["shim"])
            if not self.flow.agent_ends:
                self.agent.wait_ended("shim")
        elif "process alive: True" in note or note.startswith("executor process still alive"):
            assert alive(self.pids["shim"])

    def _send(self, index: int, row: Row) -> None:
        answers = self.recording.answers(row.connection)
        if row.connection not in self.clients:
            if answers == [503] or (not answers and row.connection not in self.flow.unanswered):
                # Refused, or in the milliseconds before the window: how often that is seen depends on the machine.
                return
            self.clients[row.connection] = Client(self._address(row))
        if b"SUBSCRIBE" not in row.data[:2000] and self._answer_after(index) == 202 and b"HEARTBEAT" not in row.data:
            self._wait_ready()
        self._learn_containers()
        self.clients[row.connection].socket.sendall(self.identities.translate(row.data))

    def _wait_ready(self) -> None:
        if not self.flow.agent_ends:
            self.agent.wait_ready()

    def _address(self, row: Row) -> int | str:
        over_unix = "domain_socket" in self.recording.options and b"\r\nHost: 127.0.0.1:" not in row.data
        return f"{self.agent.run_dir}/executors.sock" if over_unix else self.agent.port

    def _learn_containers(self) -> None:
        for theirs in self.recording.environments:
            executor_id = theirs["MESOS_EXECUTOR_ID"]
            if executor_id in self.containers:
                self.identities.learn_container(theirs["MESOS_DIRECTORY"][-36:], self.containers[executor_id])
        for event in self.recording.events:
            if event.type == _EVENT.SUBSCRIBED:
                executor_id = event.subscribed.executor_info.executor_id.value
                self.identities.learn_container(event.subscribed.container_id.value, self.containers[executor_id])

    def _answer_after(self, index: int) -> int:
        connection = self.recording.rows[index].connection
        for later in range(index + 1, len(self.recording.rows)):
            if self.recording.rows[later].connection == connection:
                for unit in self.recording.units.get(later, []):
                    if isinstance(unit, Response):
                        return unit.status
        return 0

    def _expect(self, connection: str, unit: Unit) -> None:
        client = self.clients[connection]
        if isinstance(unit, Event):
            if not client.fresh_stream:
                # What comes first is the answer to SUBSCRIBE and nobody's order.
                orders.give(self, unit)
            client.fresh_stream = False
            if self._came_on_another_stream(unit):
                return
            ours = client.take(lambda found: self._same(found, unit))
            assert self._same(ours, unit), (connection, ours, unit)
            return
        ours = client.take(lambda found: type(found) is type(unit))
        expected = unit
        if isinstance(unit, Response):
            expected = Response(unit.status, unit.head, self.identities.translate(unit.body))
            client.fresh_stream = b"chunked" in unit.head
        assert ours == expected, (connection, ours, expected)

    def _came_on_another_stream(self, theirs: Event) -> bool:
        """An acknowledgement goes to whatever stream is open: a SUBSCRIBE may be faster than it, or slower."""
        if theirs.message().type != _EVENT.ACKNOWLEDGED:
            return False
        for client in self.clients.values():
            for unit in client.units:
                if isinstance(unit, Event) and self._same(unit, theirs):
                    client.units.remove(unit)
                    return True
        return False

    def _same(self, ours: Unit, theirs: Event) -> bool:
        if not isinstance(ours, Event) or not ours.single or ours.content_type != theirs.content_type:
            return False
        return ours.payload == self._with_our_ids(theirs)

    def _with_our_ids(self, theirs: Event) -> bytes:
        event = theirs.message()
        if event.type != _EVENT.SUBSCRIBED:
            return theirs.payload
        payload = self.identities.translate(theirs.payload)
        if theirs.content_type == "application/json":
            return payload.replace(b'"port":%d' % event.subscribed.agent_info.port, b'"port":%d' % self.agent.port)
        event = _EVENT.FromString(payload)
        event.subscribed.agent_info.port = self.agent.port
        return event.SerializeToString()
