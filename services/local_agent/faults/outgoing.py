"""Events that faults strike, and what waits behind them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.local_agent.faults import damage
from services.local_agent.faults.waiting import Waiting
from services.local_agent.wire import recordio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services.local_agent.faults.rules import Rule
    from services.local_agent.faults.waiting import Caller, Registry
    from trivet.agent.v1 import faults_pb2

# Writes in one turn of the loop; then others have theirs.
_BATCH = 256


@dataclass
class _Write:
    pieces: Iterator[bytes]
    cut: faults_pb2.Fault.Cut | None = None
    # Told when all is written.
    then: Callable[[], None] | None = None


@dataclass
class _Collection:
    """Records that will leave in one chunk."""

    rule: Rule
    missing: int
    records: list[bytes] = field(default_factory=list)


class Events(Waiting["_Write | _Collection"]):
    """Events of one stream that a fault struck, and those behind them."""

    def __init__(self, registry: Registry, connection: Caller, content_type: str) -> None:
        super().__init__(registry, connection)
        self._content_type = content_type

    def send(self, payload: bytes, rule: Rule | None) -> None:
        """The next event."""
        effect = rule.fault.WhichOneof("effect") if rule is not None else ""
        if effect == "lose" or self._collected(payload, rule):
            return
        if rule is not None and rule.fault.rechunk.events_per_chunk:
            missing = rule.fault.rechunk.events_per_chunk - 1
            self.push(_Collection(rule, missing, [recordio.record(payload)]), rule, collect=True)
            return
        cut = rule.fault.cut if rule is not None and effect == "cut" else None
        self.push(_Write(self._pieces(payload, rule, effect), cut), rule)

    def end(self, then: Callable[[], None]) -> None:
        """The final chunk, behind all that waits; `then` is told when it is written."""
        self._end_collection()
        self.push(_Write(iter((recordio.FINAL_CHUNK,)), then=then), None)

    def _collected(self, payload: bytes, rule: Rule | None) -> bool:
        """Whether the event leaves with those that are being collected: of their fault, or struck by none."""
        collection = self._collection()
        if collection is None:
            return False
        if rule is not None and rule is not collection.rule:
            self._end_collection()
            return False
        collection.records.append(recordio.record(payload))
        collection.missing -= rule is not None
        if collection.missing == 0:
            self._end_collection()
        return True

    def _collection(self) -> _Collection | None:
        last = self.line.last
        return last.item if last is not None and last.fault_id and isinstance(last.item, _Collection) else None

    def _end_collection(self) -> None:
        last = self.line.last
        if last is not None and self._collection() is not None:
            last.free()
            self.pump()

    def _pieces(self, payload: bytes, rule: Rule | None, effect: str | None) -> Iterator[bytes]:
        chunk = recordio.event_chunk(payload)
        if rule is None:
            return iter((chunk,))
        fault = rule.fault
        match effect:
            case "duplicate":
                return iter((chunk, chunk))
            case "cut":
                return iter((chunk[: fault.cut.after_bytes],) if fault.cut.after_bytes else ())
            case "corrupt":
                return iter((self._corrupted(payload, rule),))
            case "rechunk":
                return damage.split(recordio.record(payload), fault.rechunk.chunk_bytes)
        return iter((chunk,))

    def _corrupted(self, payload: bytes, rule: Rule) -> bytes:
        corrupt = rule.fault.corrupt
        match corrupt.WhichOneof("how"):
            case "flip_bytes":
                return recordio.event_chunk(damage.flip(payload, corrupt.flip_bytes, rule.damage))
            case "record_length":
                return damage.with_length(payload, corrupt.record_length)
        return recordio.event_chunk(damage.unknown_event(corrupt.event_type, self._content_type))

    def perform(self, item: _Write | _Collection) -> bool:
        """Writes, some pieces a turn."""
        if isinstance(item, _Collection):
            self.connection.write(damage.join(item.records))
            return True
        written = 0
        for piece in itertools.islice(item.pieces, _BATCH):
            self.connection.write(piece)
            written += 1
        if written == _BATCH:
            return False
        if item.cut is not None:
            self.line.clear()
            self.connection.cut(reset=item.cut.reset)
        elif item.then is not None:
            item.then()
        return True
