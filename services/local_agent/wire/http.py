"""HTTP/1.1 without I/O: bytes in, requests out; heads of responses as Mesos' agent writes them.

An own parser instead of a library, because tests of executors need every byte of heads and chunks under control.

Where Mesos' agent drops the connection without a word (bytes that are not HTTP, a body that is not gzip), this one says
what is wrong first; and it has limits, which Mesos' has not. Both help whoever writes an executor.
"""

from __future__ import annotations

import enum
import re
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Request line and headers, or one line within a chunked body; bytes.
MAX_HEAD = 64 << 10
# Also of what a gzip body holds; bytes. What is recorded of a call must fit into a record of the agent's log.
MAX_BODY = 64 << 20

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_NO_HTTP = re.compile(rb"(?!%s|\r\Z)" % _TOKEN)
_REQUEST_LINE = re.compile(rb"(%s+) ([!-~\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
_HEADER_NAME = re.compile(rb"%s+" % _TOKEN)
# Heads may end their lines with a mere line feed (Mesos' parser accepts it), chunks may not.
_LINE_END = re.compile(rb"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_HEAD_END = 4
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class ProtocolError(Exception):
    """The bytes are not HTTP that can be followed: answer `status` and close the connection."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


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
        # How much of the buffer holds no end of a line or head: a client may send single bytes.
        self._scanned = 0
        self._expect = _Expect.HEAD
        self._remaining = 0
        self._body = bytearray()
        self._head = Request("", "")

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that `data` completes, one by one: what comes before a mistake is still to be answered.

        Raises:
            ProtocolError: Malformed, or larger than head and body may be.
        """
        self._buffer += data
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
            if not steps[before]():
                return
            if before is not _Expect.HEAD and self._expect is _Expect.HEAD:
                yield self._finish()

    def _take(self, end: int, after: int) -> bytes:
        """The buffer up to `end`; the next bytes are those from `after` on."""
        taken = bytes(self._buffer[:end])
        del self._buffer[:after]
        self._scanned = 0
        return taken

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", self._scanned)
        if max(end, len(self._buffer) if end < 0 else 0) > MAX_HEAD:
            raise ProtocolError(f"line longer than {MAX_HEAD} bytes")
        if end < 0:
            self._scanned = max(0, len(self._buffer) - 1)
            return None
        return self._take(end, end + 2)

    def _read_head(self) -> bool:
        if not self._scanned and self._buffer:
            # Robustness that HTTP asks for: empty lines before a request.
            blank = _BLANK_LINES.match(self._buffer)
            if blank is not None:
                del self._buffer[: blank.end()]
            if self._buffer and _NO_HTTP.match(self._buffer):
                # Said at once: who speaks something else, TLS for instance, waits for an answer before it sends more.
                raise ProtocolError("not HTTP/1.1")
        match = _HEAD_END.search(self._buffer, self._scanned)
        if (match.start() if match else len(self._buffer)) > MAX_HEAD:
            raise ProtocolError(f"head longer than {MAX_HEAD} bytes")
        if match is None:
            self._scanned = max(0, len(self._buffer) - _LONGEST_HEAD_END + 1)
            return False
        self._begin(_LINE_END.split(self._take(match.start(), match.end())))
        return True

    def _begin(self, lines: list[bytes]) -> None:
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            raise ProtocolError("not a request line of HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, value = _header(line)
            if name == "content-length" and headers.get(name, value) != value:
                raise ProtocolError("Content-Length: two values")
            headers[name] = value
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection and (match[3] == b"1" or "keep-alive" in connection)
        self._head = Request(match[1].decode(), match[2].decode("latin-1"), headers, b"", keep_alive)
        self._body.clear()
        encoding = headers.get("transfer-encoding", "").lower()
        if encoding == "chunked":
            self._expect = _Expect.CHUNK_SIZE
        elif encoding:
            raise ProtocolError("Transfer-Encoding: other than chunked")
        else:
            self._remaining = _content_length(headers.get("content-length", "0"), self._max_body)
            self._expect = _Expect.BODY

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
            raise ProtocolError("chunk size: not a hexadecimal number")
        self._remaining = int(match[1], 16)
        if len(self._body) + self._remaining > self._max_body:
            raise _body_too_long(self._max_body)
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
    if not colon or not _HEADER_NAME.fullmatch(name) or b"\r" in value or b"\0" in value:
        raise ProtocolError("not a header line")
    return name.decode("latin-1").lower(), value.strip().decode("latin-1")


def _content_length(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise ProtocolError("Content-Length: not a number")
    if len(text) > 15 or int(text) > limit:
        raise _body_too_long(limit)
    return int(text)


def _body_too_long(limit: int) -> ProtocolError:
    return ProtocolError(f"body longer than {limit} bytes", 413)


def _gunzip(data: bytes, limit: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        body = decompressor.decompress(data, limit)
        if decompressor.unconsumed_tail and decompressor.decompress(decompressor.unconsumed_tail, 1):
            raise _body_too_long(limit)
    except zlib.error as error:
        raise ProtocolError("Content-Encoding: the body is not gzip") from error
    if not decompressor.eof:
        raise ProtocolError("Content-Encoding: the gzip body is incomplete")
    return body


def response(status: int, body: str = "", *, now: float, extra: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole response; a body is plain text of one line (Mesos: errors). `now` is wall clock, seconds.

    What a request held of bytes that are not UTF-8 stands in texts as surrogate escapes and goes back unchanged. In
    headers control characters become `?`: what a client has sent must not begin another header.
    """
    payload = body.encode(errors="surrogateescape")
    lines = [f"HTTP/1.1 {status} {reason(status)}", f"Date: {formatdate(now, usegmt=True)}"]
    lines += [f"{name}: {_CONTROL.sub('?', value)}" for name, value in extra]
    if payload:
        lines.append("Content-Type: text/plain; charset=utf-8")
    lines.append(f"Content-Length: {len(payload)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogateescape") + payload


def reason(status: int) -> str:
    """The reason phrase; a status that has none gets its class'."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return {4: "Client Error", 5: "Server Error"}.get(status // 100, "Unknown")


def stream_head(content_type: str, *, now: float) -> bytes:
    """Head of the answer to SUBSCRIBE: a body without end."""
    return (
        f"HTTP/1.1 200 OK\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        f"Transfer-Encoding: chunked\r\nContent-Type: {content_type}\r\n\r\n"
    ).encode()
