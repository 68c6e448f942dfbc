"""What can be said of an event that kills whoever parses it: read by hand, with every step checked."""

from __future__ import annotations

# Drivers that may die on reporting such a task; after that it is left to the agent.
MAX_REPORTS = 6

_LAUNCH, _TASK, _TASK_ID, _VALUE = 4, 1, 2, 1


def launched_task_id(record: bytes) -> str:
    """The task id of a serialised LAUNCH event; empty when it is none."""
    data: bytes | None = record
    for number in (_LAUNCH, _TASK, _TASK_ID, _VALUE):
        data = _submessage(data, number)
        if data is None:
            return ""
    return (data or b"").decode(errors="replace")


def _submessage(data: bytes | None, wanted: int) -> bytes | None:
    """The first length-delimited field of that number."""
    position = 0
    while data is not None and position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            length, position = _varint(data, position)
            if tag >> 3 == wanted:
                return data[position : position + length]
            position += length
        elif kind in {1, 5}:
            position += 8 if kind == 1 else 4
        else:
            return None
    return None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return value, position
