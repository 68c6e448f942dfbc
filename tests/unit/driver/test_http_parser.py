"""HTTP/1 responses from whatever bytes a server may send, however they are cut."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.driver.agent.http1 import BadResponse, Parser, Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LONG = b"a: b\r\n"


def parse(data: bytes, limit: int = 4096, cuts: list[int] | None = None) -> Response:
    """The response in these bytes, fed in pieces; the connection ends after them."""
    parser = Parser(limit)
    ends = sorted({min(cut, len(data)) for cut in cuts or ()} | {len(data)})
    for begin, end in zip([0, *ends], ends, strict=False):
        if not parser.done:
            parser.feed(data[begin:end])
    parser.end()
    return parser.response()


@pytest.mark.parametrize(
    ("data", "limit", "expected"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 5, Response(200, b"hello", True, False, "")),
        (OK + b"Content-Length: 5\r\n\r\nhello", 4, Response(200, b"hell", False, True, "")),
        (OK + b"content-length:0\n\n", 5, Response(200, b"", True, False, "")),
        (OK + b"\r\nuntil the end", 99, Response(200, b"until the end", False, False, "")),
        (OK + b"\r\n" + b"x" * 999, 3, Response(200, b"xxx", False, True, "")),
        (CHUNKED + b"2;ext=1\r\nok\r\n1\r\n!\r\n0\r\nTrailer: 1\r\n\r\n", 9, Response(200, b"ok!", True, False, "")),
        (CHUNKED + b"2\r\nok\r\n1\r\n!\r\n0\r\n\r\n", 2, Response(200, b"ok", False, True, "")),
        # Nothing of the body is wanted: done after the head.
        (OK + b"Content-Length: 5\r\n\r\n", 0, Response(200, b"", False, False, "")),
        (OK + b"Content-Length: 5\r\n\r\nhello", 0, Response(200, b"", False, False, "")),
        (b"HTTP/1.0 302 Found\r\nLOCATION:  /there \r\n\r\n", 0, Response(302, b"", False, False, "/there")),
        (b"HTTP/1.1 103 Hints\r\nLocation: /no\r\n\r\n" + OK + b"\r\n", 9, Response(200, b"", False, False, "")),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", 9, Response(304, b"", True, False, "")),
        (b"HTTP/1.1 101 Switching\r\n\r\n\x81\x05", 9, Response(101, b"", False, False, "")),
        (b"HTTP/1.1 204\r\n\r\n", 9, Response(204, b"", True, False, "")),
        (OK + b"\r\n\xff\xfe\x00", 9, Response(200, b"\xff\xfe\x00", False, False, "")),
    ],
)
def test_row(data: bytes, limit: int, expected: Response) -> None:
    assert parse(data, limit) == expected
    assert parse(data, limit, list(range(len(data)))) == expected


def test_a_connection_with_more_than_was_asked_for_is_not_used_again() -> None:
    assert not parse(OK + b"Content-Length: 2\r\n\r\nok and more").reusable


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "the connection was closed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed"),
        (b"hello, I am no web server", "not an HTTP response: b'hello, I am no web server'"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "not an HTTP response, but TLS: "),
        (b"\r\n", "not an HTTP response: an empty line"),
        (b"HTTP/2 200\r\n", "not an HTTP response: b'HTTP/2 200'"),
        (b"HTTP/1.1 2000 OK\r\n", "not an HTTP response"),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n", "not an HTTP response"),
        (b"HTTP/1.1 099 OK\r\n", "not an HTTP response"),
        (OK + b"Content-Length: -1\r\n\r\n", "content-length is not a number"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "content-length is not a number"),
        (OK + b"Content-Length: 9\r\n\r\nshort", "the connection was closed inside the body"),
        (CHUNKED + b"9\r\nshort", "the connection was closed inside the body"),
        (CHUNKED + b"2\r\nok\r\n", "the connection was closed inside the body"),
        (CHUNKED + b"2\r\nok!\r\n0\r\n\r\n", "a chunk is longer than it says"),
        (CHUNKED + b"1_0\r\n", "chunk size '1_0'"),
        (CHUNKED + b"\r\n", "chunk size ''"),
        (CHUNKED + b"0\r\n" + LONG * 500, "too many trailers"),
        (b"x" * 20_000, "header line too long"),
        (OK + b"a: " + b"x" * 20_000, "header line too long"),
        (OK + LONG * 500, "too many headers"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 500, "too many interim responses"),
    ],
)
def test_what_is_no_response_is_named(data: bytes, why: str) -> None:
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(BadResponse) as raised:
            parse(data, 4096, cuts)
        assert str(raised.value).startswith(why)


BODIES = st.lists(st.binary(min_size=1, max_size=30), max_size=5)


@given(BODIES, st.integers(0, 60), st.lists(st.integers(0, 400), max_size=12), st.sampled_from("nlc"))
def test_the_cuts_make_no_difference(pieces: list[bytes], limit: int, cuts: list[int], framing: str) -> None:
    body = b"".join(pieces)
    if framing == "c":
        data = CHUNKED + b"".join(b"%X\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        data = OK + (b"Content-Length: %d\r\n" % len(body) if framing == "l" else b"") + b"\r\n" + body
    response = parse(data, limit, cuts)
    assert response.body == body[:limit]
    assert response.cut == (0 < limit < len(body))
    assert parse(data, limit).body == response.body


@given(
    st.binary(max_size=300), st.sampled_from([b"", OK, OK + b"\r\n", CHUNKED, CHUNKED + b"5\r\n"]), st.integers(0, 9)
)
def test_any_bytes_are_a_response_or_none(rest: bytes, begin: bytes, limit: int) -> None:
    try:
        response = parse(begin + rest, limit)
    except BadResponse:
        return
    assert 100 <= response.status <= 999
    assert len(response.body) <= limit


def endless(kind: bytes) -> bytes:
    heads = {
        b"length": OK + b"Content-Length: 99999999999\r\n\r\n",
        b"chunks": CHUNKED,
        b"close": OK + b"\r\n",
    }
    return heads[kind]


@pytest.mark.parametrize("kind", [b"length", b"chunks", b"close"])
def test_a_body_without_end_ends_where_it_is_enough(kind: bytes) -> None:
    parser = Parser(1000)
    parser.feed(endless(kind))
    piece = b"x" * 500 if kind != b"chunks" else b"1F4\r\n" + b"x" * 500 + b"\r\n"
    done = []
    for _ in range(3):
        parser.feed(piece)
        done.append(parser.done)
    assert done == [False, False, True]
    assert parser.response().cut


def test_a_head_without_end_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        parser = Parser(1000)
        parser.feed(OK)
        for number in range(199):
            parser.feed(b"h%d: %s\r\n" % (number, b"x" * 16_000))
        # 3 MB of headers: only those that matter are kept.
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()
    with pytest.raises(BadResponse, match="too many headers"):
        parser.feed(b"a: b\r\n" * 2)
