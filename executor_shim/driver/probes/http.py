"""HTTP probes: one GET to the task's own localhost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from executor_shim.driver.agent.http1 import BadResponse, Response, read_response
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from trivet.link.v1 import link_pb2

_BODY_LIMIT = 4096
# The task listens on one of them.
_LOOPBACK = ("127.0.0.1", "::1")


async def probe(request: health_pb2.Probe) -> health_pb2.ProbeResult:
    """Carries out an HTTP probe. Never raises: what went wrong is the result."""
    started = time.monotonic()
    result = health_pb2.ProbeResult(key=request.key, id=request.id)
    try:
        async with asyncio.timeout(request.timeout_secs or None):
            response = await _get(request.http)
        result.outcome = health_pb2.PROBE_OUTCOME_DONE
        result.http_status = response.status
        result.body = response.body
    except TimeoutError:
        result.outcome = health_pb2.PROBE_OUTCOME_TIMEOUT
        result.error = f"no answer within {request.timeout_secs:g} s"
    except BadResponse as error:
        result.outcome = health_pb2.PROBE_OUTCOME_NO_ANSWER
        result.error = str(error)
    except OSError as error:
        result.outcome = health_pb2.PROBE_OUTCOME_NO_ANSWER
        result.error = error.strerror or type(error).__name__
    result.latency_secs = time.monotonic() - started
    return result


def transient(key: link_pb2.TaskKey, probe_id: int, why: str) -> health_pb2.ProbeResult:
    """A probe that could not be made: neither success nor failure."""
    return health_pb2.ProbeResult(key=key, id=probe_id, outcome=health_pb2.PROBE_OUTCOME_TRANSIENT, error=why)


async def _get(target: health_pb2.HttpProbe) -> Response:
    reader, writer = await _connect(target.port)
    try:
        # The path comes from the task's configuration: it must not be able to add headers.
        path = "".join(c if 0x20 < ord(c) < 0x7F else f"%{b:02X}" for c in target.path for b in c.encode()) or "/"
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{target.port}\r\nUser-Agent: trivet\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        return await read_response(reader, _BODY_LIMIT)
    finally:
        writer.close()


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    refused: OSError = ConnectionRefusedError("connection refused")
    for host in _LOOPBACK:
        try:
            return await asyncio.open_connection(host, port)
        except OSError as error:
            # What the first address says is what people expect to read.
            refused = error if host == _LOOPBACK[0] else refused
    raise refused
