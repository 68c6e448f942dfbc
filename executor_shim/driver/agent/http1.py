"""HTTP/1 responses: what the bytes mean, however they are cut. For calls to the agent and for HTTP probes.

Small on purpose: it runs once a task, and http.client alone would cost 8 MiB. Everything that is kept is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import Callable

_CHUNK = 1 << 16
_MAX_LINE = 16 << 10
_MAX_HEADERS = 200
# Interim responses, each with a head of its own, until it is enough.
_MAX_INTERIM = 20
_MAX_DIGITS = 18
_HEX = frozenset("0123456789abcdefABCDEF")
_SWITCHED = 101
_OF_INTEREST = frozenset({"connection", "content-length", "location", "transfer-encoding"})


class BadResponse(Exception):
    """The peer does not speak HTTP/1, or has stopped in the middle."""


class Response(NamedTuple):
    """A response; `body` is cut at the limit that the caller gave."""

    status: int
    body: bytes
    # The connection may carry another request.
    reusable: bool
    # The body was longer than the limit.
    cut: bool
    # Value of the Location header; empty: there is none.
    location: str


class Parser:
    """One response, without input and output: bytes in until it is `done`. Interim responses (1xx) are passed over."""

    def __init__(self, limit: int) -> None:
        """Begins before the status line.

        Args:
            limit: Bytes of the body that are wanted; it is done as soon as there are more. 0: done after the head.
        """
        self.done = False
        self._limit = limit
        self._buffer = bytearray()
        self._step: Callable[[], bool] = self._status_line
        self._status = 0
        self._headers: dict[str, str] = {}
        self._lines = 0
        self._interim = 0
        self._body = bytearray()
        # Of the body or of the chunk; None: until the connection ends.
        self._left: int | None = 0
        self._chunked = False
        # Nothing of it is missing.
        self.whole = False

    def feed(self, data: bytes) -> None:
        """Takes in what has come.

        Raises:
            BadResponse: It is not HTTP.
        """
        self._buffer += data
        while not self.done and self._step():
            pass

    def end(self) -> None:
        """The peer has closed the connection.

        Raises:
            BadResponse: Too early.
        """
        if self.done:
            return
        if self._step == self._to_the_end and self._left is None:
            self.done = True
        elif self._status >= 200 and self._step != self._header_line:
            raise BadResponse("the connection was closed inside the body")
        elif self._buffer and self._step == self._status_line:
            raise _not_http(bytes(self._buffer))
        else:
            raise BadResponse("the connection was closed")

    def response(self) -> Response:
        """What was read; only once it is done."""
        close = "close" in self._headers.get("connection", "").lower()
        cut = 0 < self._limit < len(self._body)
        reusable = self.whole and not cut and not close and not self._buffer
        location = self._headers.get("location", "")
        return Response(self._status, bytes(self._body[: self._limit]), reusable, cut, location)

    # One step each: False when it needs more bytes.

    def _status_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        parts = line.split(None, 2)
        if len(parts) < 2 or not line.startswith("HTTP/1.") or not parts[1].isdecimal() or len(parts[1]) != 3:
            raise _not_http(line.encode("latin-1"))
        self._status = int(parts[1])
        if self._status < 100:
            raise _not_http(line.encode("latin-1"))
        self._headers, self._lines = {}, 0
        self._step = self._header_line
        return True

    def _header_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._head_is_whole()
            return True
        self._lines += 1
        if self._lines > _MAX_HEADERS:
            raise BadResponse("too many headers")
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if name in _OF_INTEREST:
            self._headers.setdefault(name, value.strip())
        return True

    def _head_is_whole(self) -> None:
        if self._status < 200 and self._status != _SWITCHED:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadResponse("too many interim responses")
            self._step = self._status_line
            return
        headers = self._headers
        if self._status == _SWITCHED:
            # Nobody has asked for that: what follows is no HTTP.
            self.done = True
            return
        if self._status in {204, 304}:
            self.done = self.whole = True
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunked, self._step = True, self._chunk_size
        elif "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
                raise BadResponse("content-length is not a number")
            self._left, self._step = int(length), self._to_the_end
        else:
            self._left, self._step = None, self._to_the_end
        if self._left == 0 and not self._chunked:
            self.done = self.whole = True
        self.done = self.done or not self._limit

    def _to_the_end(self) -> bool:
        if not self._take():
            return False
        self.done = self.whole = True
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        digits = line.partition(";")[0].strip()
        if not digits or len(digits) > _MAX_DIGITS or not _HEX.issuperset(digits):
            raise BadResponse(f"chunk size {line[:20]!r}")
        self._left = int(digits, 16)
        self._step = self._chunk if self._left else self._trailer
        self._lines = 0
        return True

    def _chunk(self) -> bool:
        if not self._take():
            return False
        self._step = self._after_chunk
        return True

    def _after_chunk(self) -> bool:
        line = self._line()
        if line:
            raise BadResponse("a chunk is longer than it says")
        if line is not None:
            self._step = self._chunk_size
        return line is not None

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._lines += 1
        if self._lines > _MAX_HEADERS:
            raise BadResponse("too many trailers")
        self.done = self.whole = not line
        return True

    def _take(self) -> bool:
        """Moves bytes of the body; True when the last one has come."""
        count = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        # One more than wanted tells that there are more.
        self._body += self._buffer[: min(count, self._limit + 1 - len(self._body))]
        del self._buffer[:count]
        if self._left is not None:
            self._left -= count
        self.done = len(self._body) > self._limit
        return self._left == 0

    def _line(self) -> str | None:
        end = self._buffer.find(b"\n", 0, _MAX_LINE + 1)
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise BadResponse("header line too long")
            return None
        line = self._buffer[:end].decode("latin-1").rstrip("\r")
        del self._buffer[: end + 1]
        return line


def _not_http(line: bytes) -> BadResponse:
    if not line:
        return BadResponse("not an HTTP response: an empty line")
    what = "not an HTTP response, but TLS" if line[:2] in {b"\x15\x03", b"\x16\x03"} else "not an HTTP response"
    return BadResponse(f"{what}: {line[:60]!r}")


async def read_response(reader: StreamReader, limit: int) -> Response:
    """Reads one response, skipping interim ones (1xx).

    Args:
        reader: Of the connection.
        limit: Bytes of the body that are wanted; reading stops there.

    Raises:
        BadResponse: It is not HTTP, or the connection ended inside the response.
        OSError: The connection broke.
    """
    parser = Parser(limit)
    while not parser.done:
        data = await reader.read(_CHUNK)
        if data:
            parser.feed(data)
        else:
            parser.end()
    return parser.response()
