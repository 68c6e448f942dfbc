"""One connection of a recording's executor to our agent."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from mesos.v1.executor import executor_pb2
from tests.conformance.recording import AgentBytes, Event, Response, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 20.0
# `Date` has whole seconds.
_SECOND = 1.0


class Client:
    """One connection of the recording's executor."""

    def __init__(self, address: int | str) -> None:
        """`address`: a port, or the path of a unix socket."""
        if isinstance(address, int):
            self.socket = socket.create_connection(("127.0.0.1", address), TIMEOUT)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(TIMEOUT)
            self.socket.connect(address)
        self._bytes = AgentBytes()
        self._opened = time.time()
        self.units: list[Unit] = []
        # SUBSCRIBE was answered, and no event has come yet.
        self.fresh_stream = False

    def take(self, wanted: Callable[[Unit], bool]) -> Unit:
        """The next unit; acknowledgements may overtake each other."""
        while True:
            for index, unit in enumerate(self.units):
                if wanted(unit):
                    return self.units.pop(index)
                if not _is_acknowledgement(unit):
                    return self.units.pop(index)
            data = self.socket.recv(1 << 20)
            assert data, "the agent closed the connection"
            self._feed(data)

    def unread(self) -> list[Unit]:
        """What the agent has sent beyond all that was taken, up to now."""
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(1 << 20):
                self._feed(data)
        except (BlockingIOError, ConnectionResetError):
            # Nothing more, or nothing ever again.
            pass
        assert self._bytes.whole, "half a response or event"
        return self.units

    def _feed(self, data: bytes) -> None:
        units = self._bytes.feed(data)
        for unit in units:
            if isinstance(unit, Response):
                assert self._opened - _SECOND <= unit.date <= time.time(), f"Date: {unit.date}"
        self.units += units

    def closed_by_agent(self) -> bool:
        """Waits for the end of the connection; False: something came before it."""
        try:
            return not self.units and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def _is_acknowledgement(unit: Unit) -> bool:
    return isinstance(unit, Event) and unit.message().type == executor_pb2.Event.ACKNOWLEDGED
