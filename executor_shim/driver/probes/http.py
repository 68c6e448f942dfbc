"""HTTP and HTTPS probes: one GET to the task's own loopback, and where redirects lead on it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from executor_shim.driver.agent.http1 import BadResponse, Parser, Response
from executor_shim.driver.probes import loopback, results
from executor_shim.driver.probes.results import NoAnswer, NotMade
from executor_shim.driver.probes.target import REDIRECTS, Target, probe_head, redirected, target_of
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    import socket

    from executor_shim.driver.probes.tls import Tls

_CHUNK = 1 << 16
# However much is wanted, it is kept in memory, and for many probes at once.
_MAX_BODY = 1 << 20
# Of a body that nobody wants, so much is read, and for so long, before the connection is closed: a server that is still
# writing would write of a broken pipe into the task's log.
_POLITE_BYTES = 64 << 10
_POLITE_SECS = 1.0


class Answer(NamedTuple):
    """An answer that is final. `location`: where it would have led; empty: it is no redirect."""

    response: Response
    location: str


class HttpProbes:
    """Carries out HTTP probes."""

    def __init__(self) -> None:
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def sockets(self) -> int:
        """Connections whose probe is answered already."""
        return len(self._leaving)

    async def probe(self, probe: health_pb2.Probe) -> health_pb2.ProbeResult:
        """Carries out a probe. Never raises, but when it is cancelled: what went wrong is the result."""
        started = time.monotonic()
        result = await self._outcome(probe)
        result.latency_secs = time.monotonic() - started
        return result

    async def _outcome(self, probe: health_pb2.Probe) -> health_pb2.ProbeResult:
        try:
            async with asyncio.timeout(results.budget(probe)):
                answer = await self._follow(probe.http)
        except TimeoutError:
            return results.timed_out(probe, "answer")
        except (NoAnswer, BadResponse) as error:
            return results.no_answer(probe, str(error))
        except NotMade as error:
            return results.transient(probe, str(error))
        except OSError as error:
            return results.no_answer(probe, loopback.why(error))
        result = results.result_of(probe)
        result.outcome = health_pb2.PROBE_OUTCOME_DONE
        result.http_status = answer.response.status
        result.body = answer.response.body
        result.body_cut = answer.response.cut
        result.location = results.one_line(answer.location)
        return result

    async def _follow(self, request: health_pb2.HttpProbe) -> Answer:
        origin = target = target_of(request)
        limit = min(request.body_limit, _MAX_BODY)
        for _ in range(request.max_redirects + 1):
            head = probe_head(target, request.headers, at_origin=target.same_server(origin))
            response = await self._get(target, head, limit)
            if response.status not in REDIRECTS or not response.location:
                return Answer(response, "")
            beyond = redirected(target, response.location, origin.addresses)
            if beyond is None or not request.max_redirects:
                return Answer(response, response.location)
            target = beyond
        raise NoAnswer(f"more than {request.max_redirects} redirects")

    async def _get(self, target: Target, head: bytes, limit: int) -> Response:
        sock = await loopback.connect(target.port, target.addresses)
        stream: Plain | Tls | None = None
        parser = Parser(limit)
        try:
            stream = await _encrypted(sock) if target.tls else Plain(sock)
            await stream.send(head)
            while not parser.done:
                data = await stream.recv()
                if data:
                    parser.feed(data)
                else:
                    parser.end()
        except BaseException:
            sock.close()
            raise
        if parser.whole:
            sock.close()
        else:
            self._leave(sock)
        return parser.response()

    def _leave(self, sock: socket.socket) -> None:
        leaving = asyncio.get_running_loop().create_task(_leave_politely(sock))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


class Plain:
    """A connected, non-blocking socket, as `Tls` shows it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Raises OSError."""
        await self._loop.sock_sendall(self._sock, data)

    async def recv(self) -> bytes:
        """Some bytes; none at the end. Raises OSError."""
        return await self._loop.sock_recv(self._sock, _CHUNK)


async def _encrypted(sock: socket.socket) -> Tls:
    from executor_shim.driver.probes.tls import Tls

    tls = Tls(sock)
    await tls.handshake()
    return tls


async def _leave_politely(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    left = _POLITE_BYTES
    try:
        async with asyncio.timeout(_POLITE_SECS):
            while left > 0 and (piece := await loop.sock_recv(sock, left)):
                left -= len(piece)
    except (TimeoutError, OSError):
        # It was politeness only.
        return
    finally:
        sock.close()
