"""Events that leave together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from services.local_agent.faults import spec
from services.local_agent.faults.force import Faults
from services.local_agent.wire import call_validation, recordio

if TYPE_CHECKING:
    from services.local_agent.faults.outgoing import Events
    from services.local_agent.faults.rules import Rule
    from services.local_agent.faults.waiting import Caller
    from trivet.agent.v1 import faults_pb2

COLLECT = "event=KILL rechunk.events_per_chunk=3 id=collect"


class _Sink:
    """A connection's writing side."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def _together(*payloads: bytes) -> bytes:
    return recordio.chunk(b"".join(map(recordio.record, payloads)))


def _play(*sent: tuple[bytes, bool]) -> tuple[list[bytes], list[faults_pb2.FaultInForce]]:
    """Sends payloads, struck by the fault or by none; returns what was written, and the faults."""

    async def play() -> tuple[list[bytes], list[faults_pb2.FaultInForce]]:
        faults = Faults(0, [spec.parse(COLLECT)])
        rule: Rule = cast("Any", faults)._book.rules["collect"]
        sink = _Sink()
        events: Events = faults.events(cast("Caller", sink), call_validation.PROTOBUF)
        for payload, struck in sent:
            events.send(payload, rule if struck else None)
        return sink.written, faults.in_force()

    return asyncio.run(play())


def test_only_events_that_the_fault_strikes_are_counted() -> None:
    passing = [(b"p1", False), (b"p2", False), (b"p3", False)]
    written, [fault] = _play((b"a", True), *passing, (b"b", True), (b"p4", False))
    assert (written, fault.held) == ([], 1)
    written, [fault] = _play((b"a", True), *passing, (b"b", True), (b"p4", False), (b"c", True), (b"after", False))
    assert written == [_together(b"a", b"p1", b"p2", b"p3", b"b", b"p4", b"c"), _together(b"after")]
    assert fault.held == 0


def test_the_next_collection_begins_with_the_next_strike() -> None:
    written, [fault] = _play(*((name.encode(), True) for name in "abcdefg"))
    assert written == [_together(b"a", b"b", b"c"), _together(b"d", b"e", b"f")]
    assert fault.held == 1
