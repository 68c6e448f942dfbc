"""One client's connection to the executor API: whole requests go in at one place, all bytes go out at one place."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

from services.local_agent.wire import http, operator_api
from services.local_agent.wire.call_validation import Refused
from services.local_agent.wire.routes import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.local_agent.faults.incoming import Calls
    from services.local_agent.wire.endpoint import Endpoint
    from services.local_agent.wire.http import Request

_LOG = logging.getLogger(__name__)
# What a client may leave unread; more of it, and the connection is reset. Mesos' agent holds any amount. Bytes.
MAX_UNREAD = 64 << 20
# How long the rest of a request that was refused half-way is still read, so that the answer arrives; seconds, bytes.
LINGER_SECS = 2.0
MAX_LINGER = 2 * http.MAX_BODY
# SO_LINGER on, for no time: close sends RST and drops what is not sent.
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """A TCP or unix connection. Requests are answered in the order in which they come."""

    def __init__(self, endpoint: Endpoint, route: Callable[[str], Route]) -> None:
        self._endpoint = endpoint
        self._route = route
        self._parser = http.RequestParser()
        self._transport: asyncio.Transport | None = None
        # `Connection: close` or HTTP/1.0: nothing more is read; what is under way is still answered, a stream included.
        self._last = False
        # The same of the request that is under way.
        self._closes = False
        # Why nothing is read at the moment.
        self._pauses: set[str] = set()
        # Where requests pass as long as a fault may have something to say about them.
        self._faulty: Calls | None = None
        self._gone = False
        self._refused = False
        self._ignored = 0
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Small writes go out at once: with Nagle's algorithm they would wait for delayed acknowledgements."""
        self._transport = cast("asyncio.Transport", transport)
        client = self._transport.get_extra_info("socket")
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._endpoint.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface; the cause changes nothing
        """FIN or reset: the agent treats both alike."""
        if self._linger is not None:
            self._linger.cancel()
        self._gone = True
        self._endpoint.lost(self)

    def pause_writing(self) -> None:
        """The client does not read: then it is not read from either, or it could fill the memory with answers."""
        self.pause_reading("answers unread")

    def resume_writing(self) -> None:
        """The client has read."""
        self.resume_reading("answers unread")

    def pause_reading(self, why: str) -> None:
        """Nothing more is read; the end of the connection is not noticed either."""
        self._pauses.add(why)
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self, why: str) -> None:
        """Reading goes on, if nothing else speaks against it."""
        self._pauses.discard(why)
        if self._transport is not None and not self._pauses and not self._closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Hands in the requests that `data` completes."""
        if self._refused:
            self._ignored += len(data)
            if self._ignored > MAX_LINGER:
                self.abort()
            return
        try:
            for request in self._parser.feed(data):
                if self._last or self._closing():
                    return
                self._last = not request.keep_alive
                self._take(request)
        except http.ProtocolError as error:
            if not self._last:
                self._refuse(error)

    def _take(self, request: Request) -> None:
        faults = self._endpoint.faults
        if not faults.active and self._faulty is None:
            self.hand_in(request)
            return
        if self._faulty is None:
            self._faulty = faults.calls(self)
        is_call = request.method == "POST" and self._route(request.target) is Route.EXECUTOR
        self._faulty.take(request, faults.call(request) if is_call else None)

    def hand_in(self, request: Request) -> None:
        """One whole request."""
        self._closes = not request.keep_alive
        self._follow(request)
        if self._gone:
            # Held back until nobody waited for it any more: what it has opened is over.
            self._endpoint.lost(self)

    def hand_in_unanswered(self, request: Request) -> None:
        """As if the request had come by a connection that is gone by now."""
        nobody = Connection(self._endpoint, self._route)
        nobody._gone = True
        nobody.hand_in(request)

    def _follow(self, request: Request) -> None:
        route = self._route(request.target)
        if route is Route.EXECUTOR:
            self._endpoint.on_request(self, request, self._endpoint.next_stream())
        elif route is Route.OPERATOR:
            try:
                refused = operator_api.refuse(request)
            except Refused as error:
                refused = error
            self._answer_refusal(request, refused)
        elif route is Route.FORBIDDEN:
            self._answer_refusal(request, Refused(403, "403 Forbidden."))
        else:
            self._answer_refusal(request, Refused(404, "404 Not Found."))

    def _answer_refusal(self, request: Request, refused: Refused) -> None:
        self.respond(refused.status, refused.body, refused.headers)
        self._endpoint.refused(f"{request.method} {request.target}", refused.status, refused.body)

    def respond(self, status: int, body: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """A whole response."""
        self.write(http.response(status, body, now=time.time(), extra=headers))
        self.answered()

    def answered(self) -> None:
        """A response, or the body of a stream, is complete."""
        if self._closes and self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Bytes; nothing when the connection is going down."""
        if self._transport is None or self._closing():
            return
        self._transport.write(data)
        unread = self._transport.get_write_buffer_size()
        if unread > MAX_UNREAD:
            _LOG.warning("client does not read, connection reset", extra={"fields": {"unread_bytes": unread}})
            self.abort()

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection after what is written; `reset`: at once, by RST (a unix socket knows no such thing)."""
        if reset and self._transport is not None and not self._closing():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.abort()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once; what waits to be written is thrown away."""
        if self._transport is not None:
            self._transport.abort()

    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _refuse(self, error: http.ProtocolError) -> None:
        """Says what is wrong, then half-closes: a close with bytes unread would be a reset and destroy the answer."""
        body = f"{error.status} {http.reason(error.status)}. {error}"
        self.write(http.response(error.status, body, now=time.time()))
        self._endpoint.refused("a request that is no HTTP", error.status, body)
        self._refused = True
        if self._transport is not None and not self._closing():
            self._transport.write_eof()
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECS, self.abort)
