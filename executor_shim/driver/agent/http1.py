"""HTTP/1.1 responses over asyncio streams: for calls to the agent and for HTTP probes.

Small on purpose: it runs once a task, and http.client alone would cost 8 MiB. Every read is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import StreamReader

_MAX_LINE = 16 << 10
_MAX_HEADERS = 200


class BadResponse(Exception):
    """The peer does not speak HTTP/1."""


class Response(NamedTuple):
    """A response; `body` is cut at the limit that the caller gave."""

    status: int
    body: bytes
    # The connection may carry another request.
    reusable: bool


async def read_response(reader: StreamReader, limit: int) -> Response:
    """Reads one response, skipping interim ones (1xx).

    Args:
        reader: Of the connection.
        limit: Bytes of the body that are wanted; reading stops there.

    Raises:
        BadResponse: It is not HTTP, or the connection ended inside the head.
        OSError: The connection broke.
    """
    while True:
        status, headers = await _read_head(reader)
        if status >= 200:
            break
    if status in {204, 304}:
        return Response(status, b"", reusable=True)
    close = "close" in headers.get("connection", "").lower()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, complete = await _read_chunks(reader, limit)
    elif "content-length" in headers:
        length = headers["content-length"]
        if not (length.isascii() and length.isdigit()):
            raise BadResponse("content-length is not a number")
        wanted = min(int(length), limit)
        body = await _read_up_to(reader, wanted)
        complete = len(body) == int(length)
    else:
        body, complete = await _read_up_to(reader, limit), False
    return Response(status, body, reusable=complete and not close)


async def _read_head(reader: StreamReader) -> tuple[int, dict[str, str]]:
    line = await _read_line(reader)
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit() or len(parts[1]) != 3:
        raise BadResponse(f"not an HTTP response: {line[:60]!r}" if line else "the connection was closed")
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = await _read_line(reader)
        if not line:
            return int(parts[1]), headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadResponse("too many headers")


async def _read_line(reader: StreamReader) -> str:
    try:
        line = await reader.readline()
    except ValueError:
        raise BadResponse("header line too long") from None
    if len(line) > _MAX_LINE:
        raise BadResponse("header line too long")
    return line.decode("latin-1").rstrip("\r\n")


async def _read_up_to(reader: StreamReader, wanted: int) -> bytes:
    body = b""
    while len(body) < wanted:
        piece = await reader.read(wanted - len(body))
        if not piece:
            break
        body += piece
    return body


async def _read_chunks(reader: StreamReader, limit: int) -> tuple[bytes, bool]:
    body = b""
    while True:
        line = await _read_line(reader)
        try:
            size = int(line.split(";")[0].strip(), 16)
        except ValueError:
            raise BadResponse(f"chunk size {line[:20]!r}") from None
        if size == 0:
            while await _read_line(reader):
                pass
            return body, True
        body += await _read_up_to(reader, min(size, limit - len(body)))
        if len(body) >= limit:
            return body, False
        await _read_line(reader)
