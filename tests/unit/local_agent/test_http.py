"""Requests out of bytes, whatever the pieces in which they come."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.wire import http, operator_api, routes
from services.local_agent.wire.call_validation import Refused
from services.local_agent.wire.http import ProtocolError, RequestParser
from services.local_agent.wire.routes import Route

BODY = b'{"type":"HEARTBEAT"}'
PLAIN = b"POST /a HTTP/1.1\r\nContent-Type: x\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n%s\r\nD;x=y\r\n%s\r\n0\r\nT: v\r\n\r\n" % (
    BODY[:7],
    BODY[7:],
)
ZIPPED = gzip.compress(BODY, mtime=0)
GZIP = b"POST /c HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(ZIPPED), ZIPPED)
BOMB = gzip.compress(b"0" * 10_000, mtime=0)
NO_TYPE = "Failed to validate agent::Call: Expecting 'type' to be present"
PIECES = st.sampled_from(
    [
        b"POST /a HTTP/1.1\r\n",
        b"GET / HTTP/1.0\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 300\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Connection: close\r\n",
        b"X",
        b": ",
        b"\r\n",
        b"\n",
        b"\r",
        b"5\r\n",
        b"hello",
        b"0\r\n",
        b"\x00",
    ]
)
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
        requests = list(RequestParser().feed(data))
    except ProtocolError:
        return
    assert all(request.method for request in requests)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 400), max_size=8))
def test_what_looks_like_http_gives_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(borders)]
    assert outcome(pieces) == outcome([data])


def outcome(pieces: list[bytes]) -> tuple[list[http.Request], str]:
    """The requests, and the mistake that ended them."""
    parser = RequestParser(max_body=200)
    requests: list[http.Request] = []
    try:
        for piece in pieces:
            for request in parser.feed(piece):
                requests.append(request)  # noqa: PERF402 - those before a mistake count
    except ProtocolError as error:
        return requests, str(error)
    return requests, ""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /a HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", 413),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000, 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nbad name: x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nname : x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nname: a\rb\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nname: x\r\n folded\r\n\r\n", 400),
        (b"POST /a b HTTP/1.1\r\n\r\n", 400),
        (b"POST /a HTTP/2.0\r\n\r\n", 400),
        (b"\x16", 400),
        (b"\r\n\r\n{", 400),
        (b"\rX", 400),
        (b"POST /" + b"a" * 70_000, 400),
        (b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 35\r\n\r\n" + BOMB, 413),
        (b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + ZIPPED[:20], 400),
    ],
)
def test_mistakes_are_found_before_anything_is_held(data: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as refused:
        list(RequestParser(max_body=100).feed(data))
    assert refused.value.status == status


def test_gzip_bomb_never_grows_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    head = b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            list(RequestParser(max_body=1 << 20).feed(head + bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_gzip_body_of_exactly_the_limit_is_taken() -> None:
    zipped = gzip.compress(bytes(100))
    head = b"POST /a HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped)
    assert [request.body for request in RequestParser(max_body=100).feed(head + zipped)] == [bytes(100)]


def test_head_in_single_bytes_costs_no_more_than_its_length() -> None:
    parser = RequestParser()
    for _ in range(60_000):
        assert not list(parser.feed(b"a"))
    # The part that is known to hold no end is not looked at again.
    assert parser._scanned == 60_000 - 3


def test_requests_before_a_mistake_are_still_answered() -> None:
    requests, mistake = outcome([PLAIN + BARE + b"\x00"])
    assert [request.target for request in requests] == ["/a", "/d"]
    assert mistake == "not HTTP/1.1"


def test_head_may_end_its_lines_with_a_line_feed_alone() -> None:
    (request,) = RequestParser().feed(b"\n\r\nPOST /a HTTP/1.1\nContent-Length: 2\r\nX: y\n\nok")
    assert (request.headers, request.body) == ({"content-length": "2", "x": "y"}, b"ok")


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", False),
    ],
)
def test_who_ends_the_connection(head: bytes, kept: bool) -> None:
    assert [request.keep_alive for request in RequestParser().feed(head)] == [kept]


def test_error_has_date_type_and_length_in_mesos_order() -> None:
    assert http.response(405, "no", now=0, extra=(("Allow", "POST"),)) == (
        b"HTTP/1.1 405 Method Not Allowed\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nAllow: POST\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nno"
    )
    assert http.response(202, now=0).endswith(b"GMT\r\nContent-Length: 0\r\n\r\n")


def test_bytes_that_are_not_utf8_go_back_as_they_came() -> None:
    answer = http.response(400, "near: \udcff", now=0, extra=(("X", "\udcfe"),))
    assert answer.endswith(b"Content-Length: 7\r\n\r\nnear: \xff")
    assert b"\r\nX: \xfe\r\n" in answer


def test_every_status_has_a_reason() -> None:
    assert [http.reason(status) for status in (503, 499, 599)] == [
        "Service Unavailable",
        "Client Error",
        "Server Error",
    ]


@pytest.mark.parametrize(
    ("target", "tcp", "unix"),
    [
        ("/slave(1)/api/v1/executor", Route.EXECUTOR, Route.EXECUTOR),
        ("/slave(1)/api/v1/executor?x=/y", Route.EXECUTOR, Route.EXECUTOR),
        ("/api/v1/executor", Route.EXECUTOR, Route.FORBIDDEN),
        ("/slave%281%29/api/v1/executor", Route.EXECUTOR, Route.FORBIDDEN),
        ("/slave(1)/api/v1/executor/", Route.EXECUTOR, Route.FORBIDDEN),
        ("//slave(1)//api/v1/executor/more", Route.EXECUTOR, Route.FORBIDDEN),
        ("/slave(1)/api/v1", Route.OPERATOR, Route.OPERATOR),
        ("/api/v1", Route.OPERATOR, Route.FORBIDDEN),
        ("/api/v1/executors", Route.OPERATOR, Route.FORBIDDEN),
        ("/slave(2)/api/v1/executor", Route.NOT_FOUND, Route.FORBIDDEN),
        ("/api", Route.NOT_FOUND, Route.FORBIDDEN),
        ("/health", Route.NOT_FOUND, Route.FORBIDDEN),
        ("/", Route.NOT_FOUND, Route.FORBIDDEN),
        ("*", Route.NOT_FOUND, Route.FORBIDDEN),
        ("/%ff%00", Route.NOT_FOUND, Route.FORBIDDEN),
    ],
)
def test_paths_lead_where_they_lead_in_mesos(target: str, tcp: Route, unix: Route) -> None:
    assert (routes.over_tcp(target), routes.over_unix(target)) == (tcp, unix)


@pytest.mark.parametrize(
    ("method", "content_type", "body", "status", "said"),
    [
        ("GET", None, b"", 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."),
        ("POST", None, b"", 400, "Expecting 'Content-Type' to be present"),
        ("POST", "text/plain", b"", 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"),
        ("POST", "application/json", b"", 400, "Failed to parse body into JSON: syntax error at line 1 near: "),
        ("POST", "application/json", b"[]", 400, "Failed to convert JSON into Call protobuf: Expecting a JSON object"),
        ("POST", "application/json", b'{"type":"SUBSCRIBE"}', 400, NO_TYPE),
        ("POST", "application/json", b'{"type":null}', 400, NO_TYPE),
        (
            "POST",
            "application/json",
            b'{"type":[]}',
            400,
            "Failed to convert JSON into Call protobuf: Not expecting a JSON array for field 'type'",
        ),
        ("POST", "application/json", b'{"type":"GET_HEALTH"}', 501, "501 Not Implemented."),
        ("POST", "application/x-protobuf", b"\x08\x01", 501, "501 Not Implemented."),
    ],
)
def test_operator_api_answers_who_has_mistaken_the_path(
    method: str, content_type: str | None, body: bytes, status: int, said: str
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    try:
        refused = operator_api.refuse(http.Request(method, "/api/v1", headers, body))
    except Refused as error:
        refused = error
    assert (refused.status, refused.body) == (status, said)
