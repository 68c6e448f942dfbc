"""What the driver knows, as a fold over records. Replaying them gives the same facts, without side effects.

Loaded before SUBSCRIBE is sent, so it imports next to nothing.
"""

from __future__ import annotations

from executor_shim.driver.agent.stream import StreamBroken, StreamDecoder
from executor_shim.driver.state.entries import (
    DRIVER,
    GROUP_OPEN,
    REPORTER,
    STRAY,
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


# Ids of tasks that are over, and of tasks that were never here, that are remembered. There may have been many more.
KEPT_IDS = 1000


class Facts:
    """Changes by `apply` only. A record is a kind, plain values and bytes."""

    def __init__(self) -> None:
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
        # Launch numbers of the tasks here, by id; of the newest tasks that are over; the highest of those trimmed away.
        self.launches: dict[str, int] = {}
        self.over: dict[str, int] = {}
        self.trimmed = 0
        # What has been decided on each group, by its number.
        self.groups: dict[int, int] = {}
        self.outbox: dict[bytes, Update] = {}
        # Statuses of tasks that were never here, by id, until the agent has taken them; None: it has.
        self.strays: dict[str, Update | None] = {}

    def live_task(self, task_id: str) -> Task | None:
        """The task of that id that is not over, or whose end is not acknowledged."""
        launch = self.launches.get(task_id)
        task = None if launch is None else self.tasks.get(f"{launch}:{task_id}")
        # An acknowledged one may still be here because a service has not heard of its end: the id is free again.
        return None if task is None or (task.latch is not None and task.latch.acknowledged) else task

    def takes(self, task_id: str) -> bool:
        """A LAUNCH of the id is a new task, no duplicate: none of that id is without its terminal status."""
        task = self.live_task(task_id)
        return task is None or task.latch is not None

    @property
    def had_tasks(self) -> bool:
        """A task has come at some time."""
        return bool(self.launches or self.over or self.trimmed)

    def last_launch(self, task_id: str) -> int:
        """The newest launch number that the id may have had."""
        return self.launches.get(task_id) or self.over.get(task_id) or self.trimmed

    def to_send(self) -> Iterator[Update]:
        """All that the agent has to be given, in order."""
        yield from self.outbox.values()
        yield from (update for update in self.strays.values() if update is not None)

    def unacknowledged_tasks(self) -> list[bytes]:
        """For SUBSCRIBE."""
        return [task.info for task in self.tasks.values() if task.listed]

    def unacknowledged_updates(self) -> list[bytes]:
        """For SUBSCRIBE, oldest first."""
        return [update.payload for update in self.outbox.values()]

    def snapshot(self) -> Iterator[tuple[str, Any, bytes]]:
        """Records that give the same facts when they are applied to none."""
        state, data = self.decoder.snapshot()
        open_, offset, handled, attempts = self.stream_open, self.stream_offset, self.handled, self.attempts
        yield "resume", (state, data, open_, offset, self.last_piece, self.pending, handled, attempts), b""
        yield "identity", self.identity, b""
        yield "secret", None, self.secret
        yield "agent", self.agent_lost_at, b""
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
            if task.completes_at:
                yield "completes", (task.key, task.completes_at), b""
            if task.latch is not None and task.latch.acknowledged:
                yield "acked", task.latch.uuid, b""
        # After the tasks: an older launch of an id may still be here, though the id's newest one is forgotten.
        yield "launches", self.launches, b""
        yield "over", (self.over, self.trimmed), b""
        for number, verdict in self.groups.items():
            yield "regroup", (number, verdict, [task.key for task in self.tasks.values() if task.group == number]), b""
        # After the tasks: their order is that of acceptance, across tasks.
        for update in self.outbox.values():
            yield "outbox", (update.key, update.uuid, update.state), update.payload
        for task_id, stray in self.strays.items():
            uuid, number, payload = (stray.uuid, stray.state, stray.payload) if stray else (b"", 0, b"")
            yield "stray", (task_id, uuid, number), payload

    def apply(self, kind: str, values: Any, blob: bytes) -> None:
        """Takes a record in."""
        change = getattr(self, f"_apply_{kind}", None)
        # A kind of a newer driver, from before a downgrade: what this version does not know it cannot miss.
        if change is not None:
            change(values, blob)

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
        self.launches = dict(values)

    def _apply_over(self, values: tuple[dict[str, int], int], _blob: bytes) -> None:
        over, self.trimmed = values
        self.over = dict(over)

    def _apply_launch(self, values: tuple[str, int, float], blob: bytes) -> None:
        task_id, launch, at = values
        self._add(Task(task_id, launch, blob, at))

    def _add(self, task: Task) -> None:
        self._replace(self.live_task(task.task_id))
        self.tasks[task.key] = task
        self.launches[task.task_id] = task.launch
        self.over.pop(task.task_id, None)
        # Whatever was to be said of the id is not true any more.
        self.strays.pop(task.task_id, None)

    def _replace(self, older: Task | None) -> None:
        """The agent uses the id again, so it has the older task's end, or has ended it by itself.

        Its statuses, sent now, would be taken for the new task's.
        """
        if older is not None and older.latch is not None:
            older.latch.acknowledged = True
            older.listed = False
            self._drop_updates(older.key)

    def _drop_updates(self, key: str) -> None:
        for uuid in [entry.uuid for entry in self.outbox.values() if entry.key == key]:
            del self.outbox[uuid]

    def _apply_group(self, values: Any, _blob: bytes) -> None:
        number, members, at = values
        self.groups[number] = GROUP_OPEN
        for task_id, launch, info in members:
            self._add(Task(task_id, launch, info, at, number))

    def _apply_decided(self, values: tuple[int, int], _blob: bytes) -> None:
        number, verdict = values
        self.groups[number] = verdict

    def _apply_regroup(self, values: Any, _blob: bytes) -> None:
        number, self.groups[number], keys = values
        for key in keys:
            self.tasks[key].group = number

    def _apply_end(self, values: Any, _blob: bytes) -> None:
        key, end = values
        self.tasks[key].ends.append(EndRequest(*end))

    def _apply_completes(self, values: tuple[str, float], _blob: bytes) -> None:
        key, at = values
        self.tasks[key].completes_at = at

    def _apply_stray(self, values: tuple[str, bytes, int], blob: bytes) -> None:
        task_id, uuid, state = values
        self.strays[task_id] = Update(f"{STRAY}:{task_id}", uuid, state, blob) if blob else None
        while len(self.strays) > KEPT_IDS:
            del self.strays[next(iter(self.strays))]

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
            self._drop_updates(task.key)

    def _latched(self, uuid: bytes) -> Task | None:
        return next((task for task in self.tasks.values() if task.latch and task.latch.uuid == uuid), None)

    def _apply_dropped(self, uuid: bytes, _blob: bytes) -> None:
        self.outbox.pop(uuid, None)

    def _apply_forget(self, key: str, _blob: bytes) -> None:
        task = self.tasks.pop(key, None)
        if task is not None and self.launches.get(task.task_id) == task.launch:
            self.over[task.task_id] = self.launches.pop(task.task_id)
            while len(self.over) > KEPT_IDS:
                self.trimmed = max(self.trimmed, self.over.pop(next(iter(self.over))))
        if task is not None and not any(other.group == task.group for other in self.tasks.values()):
            self.groups.pop(task.group, None)
        self._drop_updates(key)
