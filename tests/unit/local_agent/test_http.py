"""Requests out of bytes, whatever the pieces in which they come."""

from __future__ import annotations

import gzip
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.wire import http
from services.local_agent.wire.http import ProtocolError, RequestParser

BODY = b'{"type":"HEARTBEAT"}'
PLAIN = b"POST /a HTTP/1.1\r\nContent-Type: x\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n%s\r\nD;x=y\r\n%s\r\n0\r\nT: v\r\n\r\n" % (
    BODY[:7],
    BODY[7:],
)
ZIPPED = gzip.compress(BODY)
GZIP = b"POST /c HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(ZIPPED), ZIPPED)
BARE = b"\r\nGET /d HTTP/1.1\r\nConnection: close\r\n\r\n"


@given(st.lists(st.integers(0, len(PLAIN + CHUNKED + GZIP + BARE)), max_size=20))
def test_requests_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    data = PLAIN + CHUNKED + GZIP + BARE
    borders = [0, *sorted(cuts), len(data)]
    parser = RequestParser()
    requests = [request for start, end in itertools.pairwise(borders) for request in parser.feed(data[start:end])]
    assert [(r.method, r.target, r.body) for r in requests] == [
        ("POST", "/a", BODY),
        ("POST", "/b", BODY),
        ("POST", "/c", BODY),
        ("GET", "/d", b""),
    ]
    assert [r.keep_alive for r in requests] == [True, True, True, False]
    assert requests[0].headers["content-type"] == "x"


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waits_for_more_but_never_breaks_the_parser(data: bytes) -> None:
    try:
        requests = RequestParser().feed(data)
    except ProtocolError:
        return
    assert all(request.method for request in requests)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /a HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 35\r\n\r\n" + gzip.compress(b"0" * 10_000),
    ],
)
def test_bodies_beyond_the_limit_are_refused_before_they_are_held(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        RequestParser(max_body=100).feed(data)


def test_error_has_date_type_and_length_in_mesos_order() -> None:
    assert http.response(405, "no", now=0, extra=(("Allow", "POST"),)) == (
        b"HTTP/1.1 405 Method Not Allowed\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nAllow: POST\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nno"
    )
    assert http.response(202, now=0).endswith(b"GMT\r\nContent-Length: 0\r\n\r\n")
