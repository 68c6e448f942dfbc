"""Everything the reporter knows of one task: the chain and its proposals. Pure: events in, records out.

What happens is: an event makes a record, the record is journalled, and `apply` changes the task by it. Replaying the
journal calls `apply` alone, so that a restarted service stands where the old one stood, refs and bytes included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.reporter import records as rec
from services.reporter.chain import Chain, Stage, stage_of
from services.reporter.explain import Trace
from services.reporter.updates import Kind, alternating, kind_of
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.common.keys import TaskKey
    from services.reporter.updates import Told
    from services.reporter.writer import StatusWriter

PROPOSED = reporter_pb2.DELIVERY_PROPOSED
ACCEPTED = reporter_pb2.DELIVERY_ACCEPTED
ACKNOWLEDGED = reporter_pb2.DELIVERY_ACKNOWLEDGED
REJECTED = reporter_pb2.DELIVERY_REJECTED

KEEP_HEALTH_UPDATES = 50
"""Answered health and check updates that a task remembers; a task may flap for months."""


@dataclass(slots=True)
class Entry:
    """One proposal and what became of it."""

    n: int
    at: float
    data: bytes
    status: mesos_pb2.TaskStatus
    delivery: reporter_pb2.Delivery = PROPOSED
    uuid: bytes = b""
    rejection: int = 0
    told: Told | None = None
    """See `records.Proposed`."""
    later: bool = False
    """There was a RUNNING status before."""

    @property
    def is_health_update(self) -> bool:
        """A later RUNNING, about health or a check: only the newest ones matter."""
        return self.later and self.status.state == mesos_pb2.TASK_RUNNING

    def to_pb(self, epoch: str) -> reporter_pb2.StatusEntry:
        """The entry as operators see it; the uuid is the driver's."""
        status = mesos_pb2.TaskStatus()
        status.CopyFrom(self.status)
        if self.uuid:
            status.uuid = self.uuid
        return reporter_pb2.StatusEntry(
            ref=link_pb2.ProposalRef(epoch=epoch, n=self.n), status=status, delivery=self.delivery
        )


class ReportedTask:
    """One launch of one task."""

    def __init__(self, opened: rec.Opened) -> None:
        self.opened = opened
        self.key: TaskKey = opened.key
        self.key_pb = opened.key.to_pb()
        self.epoch = opened.epoch
        self.chain = Chain()
        self.trace = Trace()
        self.entries: list[Entry] = []
        self.latch: link_pb2.Latch | None = None
        self.closed: rec.Closed | None = None
        self._last_n = 0
        self._health_updates = 0
        self.chain.take_accepted(opened.accepted, gated=opened.gated)

    @classmethod
    def replay(cls, records: Iterable[rec.Record]) -> ReportedTask:
        """The task as its journal tells it.

        Raises:
            BadRecord: The journal does not begin with `Opened`, or a record refers to something that is not there.
        """
        rest = iter(records)
        first = next(rest, None)
        if not isinstance(first, rec.Opened):
            raise rec.BadRecord("the first record does not say whose journal this is")
        task = cls(first)
        for record in rest:
            task.apply(record)
        return task

    def apply(self, record: rec.Record) -> None:
        """Changes the task by a journalled record; the same live and in replay.

        Raises:
            BadRecord: It does not fit.
        """
        match record:
            case rec.Proposed(n, at, data, told):
                if n <= self._last_n:
                    raise rec.BadRecord(f"proposal {n} after {self._last_n}")
                status = mesos_pb2.TaskStatus.FromString(data)
                entry = Entry(n, at, data, status, told=told, later=self.chain.stage >= Stage.RUNNING)
                self._last_n = n
                self.entries.append(entry)
                self._health_updates += entry.is_health_update
                self.chain.advance(status, at, told)
            case rec.Answered(n, uuid, rejection):
                entry = self._entry(n)
                if rejection:
                    entry.delivery, entry.rejection = REJECTED, rejection
                elif entry.delivery in (PROPOSED, REJECTED):
                    entry.delivery = ACCEPTED
                entry.uuid = uuid or entry.uuid
                self._answered()
            case rec.Acknowledged(n, uuid):
                entry = self._entry(n)
                entry.delivery = ACKNOWLEDGED
                entry.uuid = uuid or entry.uuid
                self._answered()
            case rec.Latched(data):
                self.latch = link_pb2.Latch.FromString(data)
                self.chain.stage = Stage.OVER
            case rec.Closed():
                self.closed = record
                self.chain.stage = Stage.OVER
            case rec.Opened():
                raise rec.BadRecord("opened twice")
            case rec.Noted() | rec.Forgotten():
                pass  # the trace's alone
        self.trace.follow(record, self._entry)

    def propose(self, now: float, wall: float, writer: StatusWriter) -> rec.Proposed | None:
        """The next status to propose, not yet applied: append it, apply it, send it, and ask again.

        Args:
            now: CLOCK_BOOTTIME, seconds.
            wall: Wall clock, seconds: the status' timestamp.
            writer: Words it.
        """
        step = self.chain.next_step(now)
        if step is None:
            return None
        status = writer.write(
            step.situation,
            task_id=self.key.task_id,
            detail=step.detail,
            health_checked=step.health_checked,
            timestamp=wall,
            healthy=step.healthy,
            check_status=step.check_status,
        )
        return rec.Proposed(self._last_n + 1, now, status.SerializeToString(deterministic=True), step.told)

    def lost_end(self, task: link_pb2.HelloTask) -> bool:
        """The driver has accepted proposals of this journal that are not in it (crash of the host)."""
        return task.last_accepted.epoch == self.epoch and task.last_accepted.n > self._last_n

    def hello(self, task: link_pb2.HelloTask) -> list[rec.Record]:
        """What the driver's whole view of the task means for what is already known."""
        records: list[rec.Record] = []
        self.take_inputs(task)
        ours = task.last_accepted.n if task.last_accepted.epoch == self.epoch else 0
        for entry in self.entries:
            if entry.delivery == PROPOSED:
                # Answers that were lost with the stream.
                if entry.n <= ours:
                    records.append(rec.Answered(entry.n, b""))
                elif task.HasField("latch"):
                    records.append(rec.Answered(entry.n, task.latch.uuid, reporter_pb2.REJECTION_ALREADY_TERMINAL))
        if ours > self._last_n:
            # The journal has lost its end (crash of the host): these numbers are taken.
            self._last_n = ours
            self.chain.take_accepted(task.accepted_states, gated=alternating(task))
        self.chain.stage = max([self.chain.stage, *map(stage_of, task.accepted_states)])
        if task.HasField("latch"):
            records += self.latched(task.latch)
        return records

    def take_inputs(self, task: link_pb2.HelloTask) -> None:
        """What the runner and health said last, as the driver remembers it."""
        if task.HasField("task_state"):
            self.chain.take_state(task.task_state, whole=True)
        if task.HasField("verdict"):
            self.chain.take_verdict(task.verdict, whole=True)
        if task.ends:
            # The runner has it already or gets it now: either way the task is not going to run.
            self.chain.ending = True

    def answer(self, answer: reporter_pb2.Answer) -> list[rec.Record]:
        """The driver has accepted or rejected a proposal. Answers of another epoch mean nothing here."""
        entry = self._find(answer.ref)
        if entry is None or entry.delivery != PROPOSED:
            return []
        records: list[rec.Record] = [rec.Answered(entry.n, answer.uuid, answer.rejection)]
        if answer.rejection == reporter_pb2.REJECTION_ALREADY_TERMINAL:
            records += self.latched(link_pb2.Latch(uuid=answer.uuid))
        return records

    def acknowledged(self, message: reporter_pb2.Acknowledged) -> list[rec.Record]:
        """The agent has the status. May come before the answer."""
        entry = self._find(message.ref)
        if entry is None or entry.delivery == ACKNOWLEDGED:
            return []
        return [rec.Acknowledged(entry.n, message.uuid)]

    def latched(self, latch: link_pb2.Latch) -> list[rec.Record]:
        """The driver has the task's terminal status: nothing more is proposed."""
        data = latch.SerializeToString(deterministic=True)
        if self.latch is not None and (data == self.latch.SerializeToString(deterministic=True) or not latch.state):
            return []
        return [rec.Latched(data)]

    def unanswered(self) -> Iterator[Entry]:
        """Proposals to send (again), in order. None once the task has its terminal status from somewhere."""
        if self.closed is None and self.latch is None:
            yield from (entry for entry in self.entries if entry.delivery == PROPOSED)

    def proposal(self, entry: Entry) -> reporter_pb2.Proposal:
        """The message that carries `entry`."""
        return reporter_pb2.Proposal(
            key=self.key_pb, ref=link_pb2.ProposalRef(epoch=self.epoch, n=entry.n), status=entry.status
        )

    def close(self, wall: float) -> rec.Closed:
        """The last record: what the task went by at its end."""
        state, verdict = self.chain.state, self.chain.verdict
        return rec.Closed(
            wall, state.SerializeToString() if state else b"", verdict.SerializeToString() if verdict else b""
        )

    def trim(self) -> list[rec.Record] | None:
        """Forgets old health updates and notes when there are many; returns the journal's new content if it did."""
        if not self.trace.trim() and self._health_updates <= 2 * KEEP_HEALTH_UPDATES:
            return None
        surplus = max(self._health_updates - KEEP_HEALTH_UPDATES, 0)
        kept: list[Entry] = []
        for entry in self.entries:
            if surplus and entry.is_health_update and entry.delivery != PROPOSED:
                surplus -= 1
                self._health_updates -= 1
            else:
                kept.append(entry)
        self.entries = kept
        return list(self.records())

    def records(self) -> Iterator[rec.Record]:
        """The shortest journal that tells the same."""
        yield self.opened
        for entry in self.entries:
            yield rec.Proposed(entry.n, entry.at, entry.data, entry.told)
            if entry.delivery == ACKNOWLEDGED:
                yield rec.Acknowledged(entry.n, entry.uuid)
            elif entry.delivery != PROPOSED:
                yield rec.Answered(entry.n, entry.uuid, entry.rejection)
        if self.latch is not None:
            yield rec.Latched(self.latch.SerializeToString(deterministic=True))
        yield from self.trace.records()
        if self.closed is not None:
            yield self.closed

    def to_pb(self, *, attached: bool) -> reporter_pb2.TaskStatuses:
        """The task as operators see it."""
        view = reporter_pb2.TaskStatuses(
            key=self.key_pb, statuses=[entry.to_pb(self.epoch) for entry in self.entries], attached=attached
        )
        state, verdict = self.chain.state, self.chain.verdict
        if self.closed is not None and state is None and self.closed.state:
            state = link_pb2.TaskState.FromString(self.closed.state)
        if self.closed is not None and verdict is None and self.closed.verdict:
            verdict = link_pb2.Verdict.FromString(self.closed.verdict)
        if state is not None:
            view.task_state.CopyFrom(state)
        if verdict is not None:
            view.verdict.CopyFrom(verdict)
        return view

    def _answered(self) -> None:
        running = [entry for entry in self.entries if entry.status.state == mesos_pb2.TASK_RUNNING]
        self.chain.running_open = any(entry.delivery == PROPOSED for entry in running)
        newest: dict[Kind | None, Entry] = {kind_of(entry.status): entry for entry in running}
        # What was rejected is not waited for, either.
        self.chain.unheard = {
            kind: entry.at for kind, entry in newest.items() if kind and entry.delivery in (PROPOSED, ACCEPTED)
        }

    def _find(self, ref: link_pb2.ProposalRef) -> Entry | None:
        if ref.epoch != self.epoch:
            return None
        return next((entry for entry in reversed(self.entries) if entry.n == ref.n), None)

    def _entry(self, n: int) -> Entry:
        for entry in reversed(self.entries):
            if entry.n == n:
                return entry
        raise rec.BadRecord(f"no proposal {n}")
