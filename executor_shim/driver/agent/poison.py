"""What can be said of an event that kills whoever parses it: read by hand, with every step checked."""

from __future__ import annotations

# Drivers that may die on reporting such a task; after that it is left to the agent.
MAX_REPORTS = 6

# Field numbers on the way to the task id, in both events that bring tasks.
_LAUNCH = (4, 1, 2, 1)
_LAUNCH_GROUP = (8, 1, 1, 2, 1)


def launched_task_ids(record: bytes) -> list[str]:
    """The task ids of a serialised LAUNCH or LAUNCH_GROUP event; none when it is neither."""
    found = _walk(record, _LAUNCH) + _walk(record, _LAUNCH_GROUP)
    return [task_id.decode(errors="replace") for task_id in found if task_id]


def _walk(data: bytes, path: tuple[int, ...]) -> list[bytes]:
    """What stands at the end of a path of fields, for each repetition."""
    if not path:
        return [data]
    return [found for inner in _submessages(data, path[0]) for found in _walk(inner, path[1:])]


def _submessages(data: bytes, wanted: int) -> list[bytes]:
    """All length-delimited fields of that number, as far as the data can be read."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            length, position = _varint(data, position)
            if tag >> 3 == wanted:
                found.append(data[position : position + length])
            position += length
        elif kind in {1, 5}:
            position += 8 if kind == 1 else 4
        else:
            break
    return found


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
