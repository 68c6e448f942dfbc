"""How faults change the bytes of an event. No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.local_agent.wire import call_validation, recordio

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator

# An event of 16 MiB in chunks of one byte would keep the agent busy for minutes.
MAX_CHUNKS = 1 << 16


def flip(payload: bytes, count: int, chance: random.Random) -> bytes:
    """`count` bytes at different places are changed, or all when there are not so many."""
    damaged = bytearray(payload)
    for place in chance.sample(range(len(payload)), min(count, len(payload))):
        damaged[place] ^= chance.randrange(1, 256)
    return bytes(damaged)


def with_length(payload: bytes, length: str) -> bytes:
    """A chunk whose record announces `length`, whatever it really is."""
    return recordio.chunk(length.encode() + b"\n" + payload)


def unknown_event(event_type: int, content_type: str) -> bytes:
    """Payload of an event whose type nobody knows."""
    if content_type == call_validation.PROTOBUF:
        # By hand: generated code refuses to set what its enum does not have. Field 1, a varint.
        return b"\x08" + _varint(event_type)
    # In JSON an enum is a name; which one a later Mesos would use cannot be known.
    return json.dumps({"type": f"UNKNOWN_{event_type}"}, separators=(",", ":")).encode()


def split(record: bytes, size: int) -> Iterator[bytes]:
    """Chunks of `size` bytes of a record, of more where there would be more than `MAX_CHUNKS`."""
    size = max(size, -(-len(record) // MAX_CHUNKS))
    for start in range(0, len(record), size):
        yield recordio.chunk(record[start : start + size])


def join(records: Iterable[bytes]) -> bytes:
    """One chunk of several records."""
    return recordio.chunk(b"".join(records))


def _varint(value: int) -> bytes:
    # Negative numbers of 32 bits are written as 64.
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
