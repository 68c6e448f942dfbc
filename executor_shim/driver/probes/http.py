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
    reader, writer = await connect(target.port)
    try:
        writer.write(request_head("GET", target.port, target.path))
        await writer.drain()
        return await read_response(reader, _BODY_LIMIT)
    finally:
        writer.close()


def request_head(method: str, port: int, path: str, *headers: str) -> bytes:
    """A request without a body. The path comes from the task's configuration: it cannot add headers."""
    target = "".join(c if 0x20 < ord(c) < 0x7F else f"%{b:02X}" for c in path for b in c.encode()) or "/"
    lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{port}", "User-Agent: trivet", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the task's own localhost. Raises OSError."""
    refused: OSError = ConnectionRefusedError("connection refused")
    for host in _LOOPBACK:
        try:
            return await asyncio.open_connection(host, port)
        except OSError as error:
            # What the first address says is what people expect to read.
            refused = error if host == _LOOPBACK[0] else refused
    raise refused
