"""The executor API's sockets: connections, routing, event streams."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from services.local_agent.containers.environment import LIBPROCESS_ID
from services.local_agent.wire import call_validation, dialect_writer, http, recordio

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1.executor import executor_pb2
    from services.local_agent.wire.http import Request

    OnRequest = Callable[["Connection", Request, int], None]
    OnClosed = Callable[[int], None]

_LOG = logging.getLogger(__name__)
PATHS = frozenset({"/api/v1/executor", f"/{LIBPROCESS_ID}/api/v1/executor"})


class Endpoint:
    """Listens for executors and holds their event streams."""

    def __init__(self, on_request: OnRequest, on_stream_closed: OnClosed) -> None:
        self.on_request = on_request
        self._on_stream_closed = on_stream_closed
        self._connections: set[Connection] = set()
        self._streams: dict[int, tuple[Connection, str]] = {}
        self._ids = itertools.count(1)
        self._server: asyncio.Server | None = None

    async def listen(self, ip: str, port: int) -> int:
        """Starts to accept connections; returns the port.

        Raises:
            OSError: The address cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), ip, port, backlog=128)
        return int(self._server.sockets[0].getsockname()[1])

    def open_stream(self, stream: int, connection: Connection, content_type: str) -> None:
        """Answers by the head of an event stream."""
        self._streams[stream] = (connection, content_type)
        connection.write(http.stream_head(content_type, now=time.time()))

    def send(self, stream: int, event: executor_pb2.Event) -> None:
        """One event, as one chunk; nothing when the stream is gone."""
        connection, content_type = self._streams.get(stream, (None, ""))
        if connection is None:
            return
        if content_type == call_validation.PROTOBUF:
            payload = event.SerializeToString()
        else:
            payload = dialect_writer.encode(event)
        connection.write(recordio.event_chunk(payload))

    def end_stream(self, stream: int) -> None:
        """The final chunk."""
        connection, _ = self._streams.pop(stream, (None, ""))
        if connection is not None:
            connection.write(recordio.FINAL_CHUNK)

    def close(self) -> None:
        """Stops listening and cuts all connections, without a final chunk, as the end of Mesos' agent does."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cut()

    def next_stream(self) -> int:
        """Id for the stream that the next request may open."""
        return next(self._ids)

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self._connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone, and its streams with it."""
        self._connections.discard(connection)
        for stream in [known for known, (owner, _) in self._streams.items() if owner is connection]:
            del self._streams[stream]
            self._on_stream_closed(stream)


class Connection(asyncio.Protocol):
    """One TCP connection. Requests are answered in the order in which they come."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._parser = http.RequestParser()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Small writes go out at once: with Nagle's algorithm they would wait for delayed acknowledgements."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._endpoint.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface; the cause changes nothing
        """FIN or reset: the agent treats both alike."""
        self._endpoint.lost(self)

    def data_received(self, data: bytes) -> None:
        """Answers the requests that `data` completes."""
        try:
            for request in self._parser.feed(data):
                self._answer(request)
        except http.ProtocolError as error:
            self.respond(400, f"400 Bad Request. {error}")
            self._close()

    def respond(self, status: int, body: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """A whole response."""
        self.write(http.response(status, body, now=time.time(), extra=headers))

    def write(self, data: bytes) -> None:
        """Bytes; nothing when the connection is going down."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def cut(self) -> None:
        """Ends the connection after what is written."""
        self._close()

    def _answer(self, request: Request) -> None:
        if _path(request.target) not in PATHS:
            self.respond(404, "404 Not Found.")
        else:
            self._endpoint.on_request(self, request, self._endpoint.next_stream())
        if not request.keep_alive:
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _path(target: str) -> str:
    """Path without query, percent-encoding and trailing slash."""
    path = unquote(target.partition("?")[0])
    return path.removesuffix("/") if len(path) > 1 else path
