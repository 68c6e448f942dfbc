"""The driver's book: every fact it must not forget, as records in the memory log.

A change is a record: written first, then applied. The bytes of the event stream are records, too: they are written
before they are taken from the socket, so a driver that is killed at any moment loses no event, and the next one knows
which event it was busy with.

Loaded before SUBSCRIBE is sent: marshal, unlike json and protobuf, costs nothing to load.
"""

from __future__ import annotations

import marshal
import os

from executor_shim.driver.state.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from executor_shim.driver.state.entries import Accepted, EndRequest, Task, Update
    from executor_shim.driver.state.memlog import MemoryLog

_MARSHAL_VERSION = 4
# Compact when the log is this large and mostly history.
_COMPACT_AT = 4 << 20


class Book(Facts):
    """The facts of a driver. Methods named like events write a record and apply it."""

    def __init__(self, log: MemoryLog) -> None:
        """Replays `log`."""
        super().__init__()
        self._log = log
        self._compact_at = _COMPACT_AT
        for payload in log.load():
            self.apply(*marshal.loads(payload))  # noqa: S302 - our own memory file; nobody else can write it

    def open_stream(self) -> None:
        """A new SUBSCRIBE is about to be sent."""
        self._record("stream", None, b"")

    def close_stream(self) -> None:
        """The stream is broken or replaced: nothing more is to be read from it."""
        if self.stream_open:
            self._record("closed", None, b"")

    def take_bytes(self, piece: bytes) -> None:
        """Bytes that wait on the stream's socket; they are removed from there afterwards. See `stream_error`."""
        self._record("bytes", None, piece)

    def begin_event(self) -> int:
        """The first pending event is about to be handled; returns how often that has been tried, this time included."""
        self._record("handling", self.handled + 1, b"")
        return self.attempts

    def end_event(self) -> None:
        """The first pending event is handled."""
        self._record("handled", self.handled + 1, b"")

    def set_identity(self, identity: dict[str, Any]) -> None:
        """What SUBSCRIBED told."""
        if identity != self.identity:
            self._record("identity", identity, b"")

    def ensure_secret(self) -> None:
        """Makes the executor's secret, once."""
        if not self.secret:
            self._record("secret", None, os.urandom(32))

    def lose_agent(self, at: float) -> None:
        """No stream any more, from `at` (CLOCK_BOOTTIME) on."""
        if not self.agent_lost_at:
            self._record("agent", at, b"")

    def find_agent(self) -> None:
        """Subscribed."""
        if self.agent_lost_at:
            self._record("agent", 0.0, b"")

    def begin_shutdown(self, cause: int, at: float, deadline: float) -> None:
        """Everything has to end; the first cause stands, the deadline only comes nearer."""
        if self.shutdown is None or deadline < self.shutdown[2]:
            self._record("shutdown", (cause, at, deadline), b"")

    def launch(self, task_id: str, info: bytes, at: float) -> Task:
        """A new task."""
        launch = self.last_launch(task_id) + 1
        self._record("launch", (task_id, launch, at), info)
        return self.tasks[f"{launch}:{task_id}"]

    def launch_group(self, infos: Sequence[tuple[str, bytes]], at: float) -> list[Task]:
        """New tasks that have come together: (task id, TaskInfo). One record, so that a group is known whole or not."""
        number = max(self.groups, default=0) + 1
        members = [(task_id, self.last_launch(task_id) + 1, info) for task_id, info in infos]
        self._record("group", (number, members, at), b"")
        return [self.tasks[f"{launch}:{task_id}"] for task_id, launch, _ in members]

    def decide_group(self, number: int, verdict: int) -> None:
        """The group may start, or is refused as a whole."""
        self._record("decided", (number, verdict), b"")

    def request_end(self, task: Task, end: EndRequest) -> None:
        """Somebody wants the task to end."""
        values = (end.cause, end.seq, end.grace, end.deadline, end.message, end.requested_at)
        self._record("end", (task.key, values), b"")

    def limit_time(self, task: Task, at: float) -> None:
        """The task's first process is there: its max_completion_time is over at `at` (CLOCK_BOOTTIME)."""
        self._record("completes", (task.key, at), b"")

    def set_task_state(self, task: Task, payload: bytes) -> None:
        """The runner's newest word."""
        self._record("state", task.key, payload)

    def set_verdict(self, task: Task, payload: bytes) -> None:
        """Health's newest word."""
        self._record("verdict", task.key, payload)

    def accept(self, task: Task, accepted: Accepted, payload: bytes, at: float) -> None:
        """A status goes into the outbox; a terminal one closes the latch."""
        self._record("update", (task.key, accepted.epoch, accepted.n, accepted.uuid, accepted.state, at), payload)

    def acknowledge(self, uuid: bytes) -> Update | None:
        """The agent has the update; returns it when it was still awaited.

        A terminal one takes all older ones of its task with it: sent again after it, they would reach the scheduler as
        fresh ones (Mesos: status update reliability).
        """
        update = self.outbox.get(uuid)
        if update is not None:
            self._record("acked", uuid, b"")
        return update

    def drop_update(self, uuid: bytes) -> None:
        """The agent will never take the update (400)."""
        self._record("dropped", uuid, b"")

    def answer_stray(self, task_id: str, uuid: bytes, state: int, payload: bytes) -> None:
        """A status of a task that was never here is to be sent."""
        self._record("stray", (task_id, uuid, state), payload)

    def end_stray(self, update: Update) -> None:
        """The agent has taken that status, or never will."""
        task_id = update.key.partition(":")[2]
        # In the meantime the id may have come to life.
        if self.strays.get(task_id) is update:
            self._record("stray", (task_id, b"", 0), b"")

    def forget(self, task: Task) -> None:
        """Nothing is left of the task, and everybody knows its end."""
        self._record("forget", task.key, b"")

    def _record(self, kind: str, values: Any, blob: bytes) -> None:
        if self._log.size > self._compact_at:
            self._compact()
        self._log.append(marshal.dumps((kind, values, blob), _MARSHAL_VERSION))
        self.apply(kind, values, blob)

    def _compact(self) -> None:
        self._log.rewrite(marshal.dumps(record, _MARSHAL_VERSION) for record in self.snapshot())
        # Large tasks may fill the log by themselves; then compacting each time would be quadratic.
        self._compact_at = max(_COMPACT_AT, 2 * self._log.size)
