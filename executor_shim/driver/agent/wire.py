"""SUBSCRIBE, encoded by hand: it goes out before protobuf is loaded, and carries tasks and updates byte for byte.

Only length-delimited fields and one varint are needed (protobuf wire format). Field numbers: `mesos.v1.executor.Call`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_SUBSCRIBE = 1
_UPDATE = 2


def varint(value: int) -> bytes:
    """Base-128 varint of a value >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def subscribe_call(executor_id: str, framework_id: str, tasks: Iterable[bytes], updates: Iterable[bytes]) -> bytes:
    """A serialised `Call` of type SUBSCRIBE.

    Args:
        executor_id: Of this executor.
        framework_id: Of its framework.
        tasks: Serialised `TaskInfo` of every task of which no update was acknowledged, as received.
        updates: Serialised `Call.Update` of every unacknowledged update, oldest first, as sent.
    """
    lists = b"".join([field(1, task) for task in tasks] + [field(2, update) for update in updates])
    return (
        field(1, field(1, executor_id.encode()))
        + field(2, field(1, framework_id.encode()))
        + varint(3 << 3)
        + varint(_SUBSCRIBE)
        # Present even when empty: the agent insists on it.
        + field(4, lists)
    )


def update_call(executor_id: str, framework_id: str, update: bytes) -> bytes:
    """A serialised `Call` of type UPDATE around a serialised `Call.Update`."""
    return (
        field(1, field(1, executor_id.encode()))
        + field(2, field(1, framework_id.encode()))
        + varint(3 << 3)
        + varint(_UPDATE)
        + field(5, update)
    )
