"""The driver's book: every fact it must not forget, as records in the memory log.

A change is a record: written first, then applied. Replaying the records gives the same book, without side effects. The
bytes of the event stream are records, too: they are written before they are taken from the socket, so a driver that is
killed at any moment loses no event, and the next one knows which event it was busy with.

Loaded before SUBSCRIBE is sent: marshal, unlike json and protobuf, costs nothing to load.
"""

from __future__ import annotations

import marshal
import os

from executor_shim.driver.agent.stream import StreamBroken, StreamDecoder
from executor_shim.driver.state.entries import (
    DRIVER,
    REPORTER,
    TERMINAL_STATES,
    Accepted,
    EndRequest,
    Latch,
    Task,
    Update,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from executor_shim.driver.state.memlog import MemoryLog

_MARSHAL_VERSION = 4
# Compact when the log is this large and mostly history.
_COMPACT_AT = 4 << 20


class Book:
    """See the module. Methods named like events write a record and apply it."""

    def __init__(self, log: MemoryLog) -> None:
        """Replays `log`."""
        self._log = log
        self._compact_at = _COMPACT_AT
        # The event stream.
        self.decoder = StreamDecoder()
        self.stream_open = False
        self.stream_offset = 0
        self.last_piece = b""
        # Why the stream cannot be read any further; empty while it can.
        self.stream_error = ""
        # Records that have come and are not handled; the number of the first is `handled` + 1.
        self.pending: list[bytes] = []
        self.handled = 0
        self.attempts = 0
        # From SUBSCRIBED; empty before.
        self.identity: dict[str, Any] = {}
        # Proves to the services that a driver is this executor's. Never logged.
        self.secret = b""
        # CLOCK_BOOTTIME of the moment the agent was lost; 0: it is there.
        self.agent_lost_at = 0.0
        # Everything has to end: (cause, at, deadline), CLOCK_BOOTTIME.
        self.shutdown: tuple[int, float, float] | None = None
        self.tasks: dict[str, Task] = {}
        self.launches: dict[str, int] = {}
        self.outbox: dict[bytes, Update] = {}
        for payload in log.load():
            self._apply(*marshal.loads(payload))  # noqa: S302 - our own memory file; nobody else can write it

    # What is known

    def live_task(self, task_id: str) -> Task | None:
        """The task of that id that is not over, or is over and not acknowledged."""
        launch = self.launches.get(task_id)
        return None if launch is None else self.tasks.get(f"{launch}:{task_id}")

    def unacknowledged_tasks(self) -> list[bytes]:
        """For SUBSCRIBE."""
        return [task.info for task in self.tasks.values() if task.listed]

    def unacknowledged_updates(self) -> list[bytes]:
        """For SUBSCRIBE, oldest first."""
        return [update.payload for update in self.outbox.values()]

    # What happens

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
        launch = self.launches.get(task_id, 0) + 1
        self._record("launch", (task_id, launch, at), info)
        return self.tasks[f"{launch}:{task_id}"]

    def request_end(self, task: Task, end: EndRequest) -> None:
        """Somebody wants the task to end."""
        values = (end.cause, end.seq, end.grace, end.deadline, end.message, end.requested_at)
        self._record("end", (task.key, values), b"")

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

    def forget(self, task: Task) -> None:
        """Nothing is left of the task, and everybody knows its end."""
        self._record("forget", task.key, b"")

    # Records

    def _record(self, kind: str, values: Any, blob: bytes) -> None:
        if self._log.size > self._compact_at:
            self._compact()
        self._log.append(marshal.dumps((kind, values, blob), _MARSHAL_VERSION))
        self._apply(kind, values, blob)

    def _compact(self) -> None:
        self._log.rewrite(marshal.dumps(record, _MARSHAL_VERSION) for record in self._snapshot())
        # Large tasks may fill the log by themselves; then compacting each time would be quadratic.
        self._compact_at = max(_COMPACT_AT, 2 * self._log.size)

    def _snapshot(self) -> Iterator[tuple[str, Any, bytes]]:
        state, data = self.decoder.snapshot()
        open_, offset, handled, attempts = self.stream_open, self.stream_offset, self.handled, self.attempts
        yield "resume", (state, data, open_, offset, self.last_piece, self.pending, handled, attempts), b""
        yield "identity", self.identity, b""
        yield "secret", None, self.secret
        yield "agent", self.agent_lost_at, b""
        yield "launches", self.launches, b""
        if self.shutdown is not None:
            yield "shutdown", self.shutdown, b""
        for task in self.tasks.values():
            yield "launch", (task.task_id, task.launch, task.launched_at), task.info
            for end in task.ends:
                values = (end.cause, end.seq, end.grace, end.deadline, end.message, end.requested_at)
                yield "end", (task.key, values), b""
            if task.task_state:
                yield "state", task.key, task.task_state
            if task.verdict:
                yield "verdict", task.key, task.verdict
            for entry in task.accepted:
                latched_at = task.latch.at if task.latch else 0.0
                yield "update", (task.key, entry.epoch, entry.n, entry.uuid, entry.state, latched_at), b""
            if not task.listed:
                yield "unlist", task.key, b""
            if task.latch is not None and task.latch.acknowledged:
                yield "acked", task.latch.uuid, b""
        # After the tasks: their order is that of acceptance, across tasks.
        for update in self.outbox.values():
            yield "outbox", (update.key, update.uuid, update.state), update.payload

    def _apply(self, kind: str, values: Any, blob: bytes) -> None:
        getattr(self, f"_apply_{kind}")(values, blob)

    def _apply_stream(self, _values: None, _blob: bytes) -> None:
        self.decoder = StreamDecoder()
        self.stream_open = True
        self.stream_error = ""
        self.stream_offset = 0
        self.last_piece = b""

    def _apply_closed(self, _values: None, _blob: bytes) -> None:
        self.stream_open = False

    def _apply_bytes(self, _values: None, blob: bytes) -> None:
        self.stream_offset += len(blob)
        self.last_piece = blob
        try:
            self.decoder.feed(blob, self.pending)
        except StreamBroken as error:
            # Replaying must give the same book, so this is a fact like any other.
            self.stream_error = str(error)

    def _apply_resume(self, values: Any, _blob: bytes) -> None:
        state, data, self.stream_open, self.stream_offset, self.last_piece, pending, self.handled, self.attempts = (
            values
        )
        self.pending = list(pending)
        self.decoder.restore(state, data)

    def _apply_handling(self, number: int, _blob: bytes) -> None:
        del number
        self.attempts += 1

    def _apply_handled(self, number: int, _blob: bytes) -> None:
        self.handled = number
        self.attempts = 0
        del self.pending[0]

    def _apply_identity(self, values: dict[str, Any], _blob: bytes) -> None:
        self.identity = values

    def _apply_secret(self, _values: None, blob: bytes) -> None:
        self.secret = blob

    def _apply_agent(self, at: float, _blob: bytes) -> None:
        self.agent_lost_at = at

    def _apply_shutdown(self, values: tuple[int, float, float], _blob: bytes) -> None:
        cause, at, deadline = values
        self.shutdown = values if self.shutdown is None else (self.shutdown[0], self.shutdown[1], deadline)
        del cause, at

    def _apply_launches(self, values: dict[str, int], _blob: bytes) -> None:
        self.launches.update(values)

    def _apply_launch(self, values: tuple[str, int, float], blob: bytes) -> None:
        task_id, launch, at = values
        task = Task(task_id, launch, blob, at)
        self.tasks[task.key] = task
        self.launches[task_id] = launch

    def _apply_end(self, values: Any, _blob: bytes) -> None:
        key, end = values
        self.tasks[key].ends.append(EndRequest(*end))

    def _apply_state(self, key: str, blob: bytes) -> None:
        self.tasks[key].task_state = blob

    def _apply_verdict(self, key: str, blob: bytes) -> None:
        self.tasks[key].verdict = blob

    def _apply_update(self, values: Any, blob: bytes) -> None:
        key, epoch, n, uuid, state, at = values
        task = self.tasks[key]
        task.accepted.append(Accepted(epoch, n, uuid, state))
        if blob:
            self.outbox[uuid] = Update(key, uuid, state, blob)
        if state in TERMINAL_STATES:
            task.latch = Latch(state, uuid, REPORTER if epoch else DRIVER, at)

    def _apply_outbox(self, values: tuple[str, bytes, int], blob: bytes) -> None:
        key, uuid, state = values
        self.outbox[uuid] = Update(key, uuid, state, blob)

    def _apply_unlist(self, key: str, _blob: bytes) -> None:
        self.tasks[key].listed = False

    def _apply_acked(self, uuid: bytes, _blob: bytes) -> None:
        update = self.outbox.pop(uuid, None)
        task = self.tasks.get(update.key) if update else self._latched(uuid)
        if task is None:
            return
        task.listed = False
        if task.latch is not None and task.latch.uuid == uuid:
            task.latch.acknowledged = True
            for older in [entry.uuid for entry in self.outbox.values() if entry.key == task.key]:
                del self.outbox[older]

    def _latched(self, uuid: bytes) -> Task | None:
        return next((task for task in self.tasks.values() if task.latch and task.latch.uuid == uuid), None)

    def _apply_dropped(self, uuid: bytes, _blob: bytes) -> None:
        self.outbox.pop(uuid, None)

    def _apply_forget(self, key: str, _blob: bytes) -> None:
        self.tasks.pop(key, None)
        for uuid in [entry.uuid for entry in self.outbox.values() if entry.key == key]:
            del self.outbox[uuid]
