"""Numbers for the named ports of a task."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def assign(names: Iterable[str], given: Mapping[str, int]) -> dict[str, int]:
    """The given ports and a free one on loopback for each other name.

    Free means: free now. Mesos' own offers promise no more than that either.

    Raises:
        OSError: no port is free.
    """
    ports = dict(given)
    taken: list[socket.socket] = []
    try:
        for name in sorted(set(names) - ports.keys()):
            number = _free(taken)
            while number in ports.values():
                number = _free(taken)
            ports[name] = number
    finally:
        for holder in taken:
            holder.close()
    return ports


def _free(taken: list[socket.socket]) -> int:
    # Held until all are chosen, so that none is chosen twice.
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.append(holder)
    holder.bind(("127.0.0.1", 0))
    number: int = holder.getsockname()[1]
    return number
