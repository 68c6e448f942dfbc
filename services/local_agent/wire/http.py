"""HTTP/1.1 without I/O: bytes in, requests out; heads of responses as Mesos' agent writes them.

An own parser instead of a library, because tests of executors need every byte of heads and chunks under control.
"""

from __future__ import annotations

import enum
import re
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate

MAX_HEAD = 64 << 10
MAX_BODY = 64 << 20

REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class ProtocolError(Exception):
    """The bytes are not HTTP that can be followed: answer 400 and close the connection."""


@dataclass(frozen=True)
class Request:
    """One request. Header names are in lower case; of a repeated header the last one counts."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True


class _Expect(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()
    CHUNK_END = enum.auto()
    TRAILER = enum.auto()


class RequestParser:
    """Splits one connection's bytes into requests. After a `ProtocolError` it is of no further use."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._expect = _Expect.HEAD
        self._remaining = 0
        self._body = bytearray()
        self._head = Request("", "")

    def feed(self, data: bytes) -> list[Request]:
        """The requests that `data` completes.

        Raises:
            ProtocolError: Malformed, or larger than head and body may be.
        """
        self._buffer += data
        requests: list[Request] = []
        steps = {
            _Expect.HEAD: self._read_head,
            _Expect.BODY: self._read_body,
            _Expect.CHUNK_SIZE: self._read_chunk_size,
            _Expect.CHUNK_DATA: self._read_body,
            _Expect.CHUNK_END: self._read_chunk_end,
            _Expect.TRAILER: self._read_trailer,
        }
        while True:
            before = self._expect
            progressed = steps[before]()
            if progressed and before is not _Expect.HEAD and self._expect is _Expect.HEAD:
                requests.append(self._finish())
            if not progressed:
                return requests

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ProtocolError("line too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_head(self) -> bool:
        while self._buffer[:2] == b"\r\n":
            # Robustness that HTTP asks for: empty lines before a request.
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ProtocolError("head too long")
            return False
        if end > MAX_HEAD:
            raise ProtocolError("head too long")
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            raise ProtocolError("not a request line")
        headers = dict(map(_header, lines[1:]))
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection and (match[3] == b"1" or "keep-alive" in connection)
        self._head = Request(match[1].decode(), match[2].decode("latin-1"), headers, b"", keep_alive)
        self._body.clear()
        encoding = headers.get("transfer-encoding", "").lower()
        if encoding == "chunked":
            self._expect = _Expect.CHUNK_SIZE
        elif encoding:
            raise ProtocolError("transfer encoding other than chunked")
        else:
            self._remaining = _content_length(headers.get("content-length", "0"), self._max_body)
            self._expect = _Expect.BODY
        return True

    def _read_body(self) -> bool:
        taken = min(self._remaining, len(self._buffer))
        self._body += self._buffer[:taken]
        del self._buffer[:taken]
        self._remaining -= taken
        if self._remaining:
            return False
        self._expect = _Expect.HEAD if self._expect is _Expect.BODY else _Expect.CHUNK_END
        return True

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise ProtocolError("not a chunk size")
        self._remaining = int(match[1], 16)
        if len(self._body) + self._remaining > self._max_body:
            raise ProtocolError("body too long")
        self._expect = _Expect.CHUNK_DATA if self._remaining else _Expect.TRAILER
        return True

    def _read_chunk_end(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise ProtocolError("chunk is longer than its size")
        self._expect = _Expect.CHUNK_SIZE
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._expect = _Expect.HEAD
        return True

    def _finish(self) -> Request:
        head = self._head
        body = bytes(self._body)
        self._body.clear()
        if head.headers.get("content-encoding", "").lower() == "gzip":
            body = _gunzip(body, self._max_body)
        return Request(head.method, head.target, head.headers, body, head.keep_alive)


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip():
        raise ProtocolError("not a header line")
    return name.decode("latin-1").lower(), value.strip().decode("latin-1")


def _content_length(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise ProtocolError("Content-Length is not a number")
    if len(text) > 15 or int(text) > limit:
        raise ProtocolError("body too long")
    return int(text)


def _gunzip(data: bytes, limit: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        body = decompressor.decompress(data, limit)
    except zlib.error as error:
        raise ProtocolError("body is not gzip") from error
    if not decompressor.eof:
        raise ProtocolError("gzip body is incomplete or too long")
    return body


def response(status: int, body: str = "", *, now: float, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole response; a body is plain text of one line (Mesos: errors). `now` is wall clock, seconds."""
    payload = body.encode()
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Date: {formatdate(now, usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in extra]
    if payload:
        lines.append("Content-Type: text/plain; charset=utf-8")
    lines.append(f"Content-Length: {len(payload)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


def stream_head(content_type: str, *, now: float) -> bytes:
    """Head of the answer to SUBSCRIBE: a body without end."""
    return (
        f"HTTP/1.1 200 OK\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        f"Transfer-Encoding: chunked\r\nContent-Type: {content_type}\r\n\r\n"
    ).encode()
