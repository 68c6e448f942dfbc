"""The executor API's sockets: listeners, and the event streams on their connections."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.faults.force import Faults
from services.local_agent.wire import call_validation, dialect_writer, http, recordio, routes
from services.local_agent.wire.connection import Connection
from services.local_agent.wire.listeners import Listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1.executor import executor_pb2
    from services.local_agent.faults.outgoing import Events
    from services.local_agent.wire.http import Request

    OnRequest = Callable[["Connection", Request, int], None]
    OnClosed = Callable[[int], None]
    # Method and path, status, text.
    OnRefused = Callable[[str, int, str], None]


@dataclass
class _Stream:
    connection: Connection
    content_type: str
    executor_id: str
    # Where its events pass as long as a fault may have something to say about them.
    faulty: Events | None = None


class Endpoint:
    """Listens for executors and holds their event streams."""

    def __init__(
        self,
        on_request: OnRequest,
        on_stream_closed: OnClosed,
        faults: Faults | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """`on_refused` is told what never comes to `on_request`: wrong paths, requests that are no HTTP."""
        self.on_request = on_request
        self._on_refused = on_refused
        self.faults = faults or Faults()
        self._on_stream_closed = on_stream_closed
        self._connections: set[Connection] = set()
        self._streams: dict[int, _Stream] = {}
        self._ids = itertools.count(1)
        self._listeners = Listeners()

    async def listen(self, ip: str, port: int) -> int:
        """Starts to accept TCP connections; returns the port.

        Raises:
            OSError: The address cannot be used.
        """
        self._listeners.refusing = self.faults.refuses_connections
        return await self._listeners.listen_tcp(lambda: Connection(self, routes.over_tcp), ip, port)

    async def listen_unix(self, path: str) -> None:
        """Starts to accept connections on a unix socket, whose file is made or replaced.

        Raises:
            OSError: The path cannot be used.
        """
        await self._listeners.listen_unix(lambda: Connection(self, routes.over_unix), path)

    async def apply_listening(self) -> None:
        """Listens, or refuses connections, as the faults in force want it. Connections that stand are left alone.

        Raises:
            OSError: An address is not to be had again.
        """
        await self._listeners.refuse(self.faults.refuses_connections)

    def open_stream(self, stream: int, connection: Connection, content_type: str, executor_id: str = "") -> None:
        """Answers by the head of an event stream. Whose it is only faults want to know."""
        self._streams[stream] = _Stream(connection, content_type, executor_id)
        connection.write(http.stream_head(content_type, now=time.time()))

    def send(self, stream: int, event: executor_pb2.Event) -> None:
        """One event, as one chunk; nothing when the stream is gone."""
        known = self._streams.get(stream)
        if known is None:
            return
        if known.content_type == call_validation.PROTOBUF:
            payload = event.SerializeToString()
        else:
            payload = dialect_writer.encode(event)
        if self.faults.active or known.faulty is not None:
            if known.faulty is None:
                known.faulty = self.faults.events(known.connection, known.content_type)
            known.faulty.send(payload, self.faults.event(event, known.executor_id))
        else:
            known.connection.write(recordio.event_chunk(payload))

    def end_stream(self, stream: int) -> None:
        """The final chunk."""
        known = self._streams.pop(stream, None)
        if known is None:
            return
        if known.faulty is not None:
            known.faulty.end(lambda: self._ended(known.connection))
        else:
            known.connection.write(recordio.FINAL_CHUNK)
            self._ended(known.connection)

    def _ended(self, connection: Connection) -> None:
        if not any(other.connection is connection for other in self._streams.values()):
            connection.answered()

    def end_streams(self) -> None:
        """The final chunk to all, as Mesos' agent does when it leaves its master."""
        for stream in list(self._streams):
            self.end_stream(stream)

    def close(self) -> None:
        """Stops listening and cuts all connections, without a final chunk, as the end of Mesos' agent does."""
        self._listeners.close()
        self.faults.close()
        for connection in list(self._connections):
            connection.cut()

    def next_stream(self) -> int:
        """Id for the stream that the next request may open."""
        return next(self._ids)

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self._connections.add(connection)
        if self.faults.active:
            self.faults.accepted(connection)

    def refused(self, what: str, status: int, body: str) -> None:
        """A connection has refused a request by itself."""
        if self._on_refused is not None:
            self._on_refused(what, status, body)

    def lost(self, connection: Connection) -> None:
        """A connection is gone, and its streams with it."""
        self._connections.discard(connection)
        self.faults.lost(connection)
        for stream in [known for known, value in self._streams.items() if value.connection is connection]:
            del self._streams[stream]
            self._on_stream_closed(stream)
