"""The trace of one task: what the reporter has learned, in the order of learning, bounded. Pure: no clock, no I/O.

What is learned becomes `records.Noted`, is journalled and then applied, like everything else about a task. What became
of proposals is in the journal anyway: `follow` makes the notes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.reporter import explain_words as words
from services.reporter import records as rec
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.reporter.task import Entry

KEEP_NOTES = 50
"""Notes that a trimmed trace has left."""

MAX_NOTES = 150
"""Notes that a trace may have until it is trimmed."""

# The runner tells as many again and again: what was dropped of them would be learned anew.
_KEEP_ENDS = 8

# What may come again and again, so that a long trace drops the oldest of it.
_REPEATED = frozenset(
    {
        reporter_pb2.TRACE_KIND_RUN_ENDED,
        reporter_pb2.TRACE_KIND_END,
        reporter_pb2.TRACE_KIND_HEALTH,
        reporter_pb2.TRACE_KIND_CHECK,
        reporter_pb2.TRACE_KIND_ATTACHED,
        reporter_pb2.TRACE_KIND_DETACHED,
        reporter_pb2.TRACE_KIND_GAP,
    }
)
_OF_RUNNER = frozenset({reporter_pb2.TRACE_KIND_RUN_ENDED, reporter_pb2.TRACE_KIND_END})


class Trace:
    """Notes of one task, oldest first."""

    def __init__(self) -> None:
        self.notes: list[rec.Noted] = []
        self.dropped = 0

    def newest(self, *kinds: int, n: int = 0) -> rec.Noted | None:
        """The newest note of one of these kinds; `n`: about that proposal."""
        return next((note for note in reversed(self.notes) if note.kind in kinds and n in (0, note.n)), None)

    # What is learned, as records.

    def of_state(self, state: link_pb2.TaskState, wall: float) -> list[rec.Noted]:
        """What is new in the runner's view, which tells much of it again each time."""
        known = {_identity(note) for note in self.notes}
        return [note for note in words.of_state(state, wall) if _identity(note) not in known]

    def of_verdict(self, verdict: link_pb2.Verdict, wall: float) -> list[rec.Noted]:
        """What is new in health's view."""
        found = []
        for note in words.of_verdict(verdict, wall):
            newest = self.newest(note.kind)
            if newest is None or newest.text != note.text:
                found.append(note)
        return found

    def of_hello(self, said: link_pb2.HelloTask, generation: int, lost_end: bool, wall: float) -> list[rec.Noted]:
        """A driver is there, with all that it knows of the task.

        Args:
            said: What it knows.
            generation: The driver's number.
            lost_end: It has accepted proposals that the journal does not have.
            wall: Wall clock, seconds.
        """
        known = {_identity(note) for note in self.notes}
        notes = [words.attached(generation, wall)]
        if lost_end:
            notes.append(words.lost_end(wall))
        if said.HasField("task_state"):
            notes += self.of_state(said.task_state, wall)
        if said.HasField("verdict"):
            notes += self.of_verdict(said.verdict, wall)
        if not said.task_state.end_cause:
            notes += [
                note for end in said.ends[-_KEEP_ENDS:] if _identity(note := words.requested(end, wall)) not in known
            ]
        return notes

    # What changes the trace, live as in a replay.

    def follow(self, record: rec.Record, entry: Callable[[int], Entry]) -> None:
        """Takes in a record that was applied to the task; `entry` finds a proposal by its number."""
        match record:
            case rec.Noted():
                self.notes.append(record)
            case rec.Forgotten(dropped):
                self.notes.clear()
                self.dropped = dropped
            case rec.Proposed(n):
                self.notes.append(words.proposed(entry(n)))
            case rec.Answered(n, _, rejection, wall):
                self.notes.append(words.answered(entry(n), rejection, wall))
            case rec.Acknowledged(n, _, wall):
                self.notes.append(words.acknowledged(entry(n), wall))
            case rec.Latched(data, wall):
                latch = link_pb2.Latch.FromString(data)
                if latch.origin == link_pb2.LATCH_ORIGIN_DRIVER and not self.newest(reporter_pb2.TRACE_KIND_LATCHED):
                    self.notes.append(words.latched(latch, wall))
            case _:
                pass  # opened and closed: the first and the last word have notes of their own

    def trim(self) -> bool:
        """Drops old repeated notes when there are too many; returns whether it has dropped any."""
        if len(self.notes) <= MAX_NOTES:
            return False
        protected = set()
        for kind in _OF_RUNNER:
            places = [place for place, note in enumerate(self.notes) if note.kind == kind]
            protected.update(places[-_KEEP_ENDS:])
            if kind == reporter_pb2.TRACE_KIND_END:
                # The cause.
                protected.update(places[:1])
        loose = [
            place
            for place, note in enumerate(self.notes)
            if (note.minor or note.kind in _REPEATED) and place not in protected
        ]
        out = set(loose[: len(self.notes) - KEEP_NOTES])
        self.notes = [note for place, note in enumerate(self.notes) if place not in out]
        self.dropped += len(out)
        return bool(out)

    def records(self) -> Iterator[rec.Record]:
        """Makes a replayed trace this one, whatever came before."""
        if self.notes:
            yield rec.Forgotten(self.dropped)
            yield from self.notes


def stamped(records: Sequence[rec.Record], wall: Callable[[], float]) -> list[rec.Record]:
    """The records, those about proposals with the time when they were learned."""
    if not any(isinstance(record, _TIMED) for record in records):
        return list(records)
    now = wall()
    return [record._replace(wall=now) if isinstance(record, _TIMED) else record for record in records]


_TIMED = (rec.Answered, rec.Acknowledged, rec.Latched)


def _identity(note: rec.Noted) -> tuple[int, int, float, str]:
    return note.source, note.kind, note.source_at, note.text
