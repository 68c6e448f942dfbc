"""HTTP probes against real servers, good and bad ones."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import tracemalloc

import pytest

from tests.integration.probes.prober_rig import (
    DONE,
    NO_ANSWER,
    TIMEOUT,
    Probing,
    hang,
    head,
    open_sockets,
    probing,
    saying,
    serving,
    settle,
)
from trivet.health.v1 import health_pb2 as pb

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body", "cut"),
    [
        ((OK + b"Content-Length: 2\r\n\r\nok",), 200, b"ok", False),
        ((b"HTTP/1.0 503 Not now\r\n\r\nnot ", b"yet"), 503, b"not yet", False),
        ((OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\no", b"k\r\n1\r\n!\r\n0\r\n\r\n"), 200, b"ok!", False),
        ((OK + b"Content-Length: 3\r\n\r\n\xff\xfe\x80",), 200, b"\xff\xfe\x80", False),
        ((OK + b"Content-Length: 9\r\n\r\n123456789",), 200, b"12345678", True),
        ((OK + b"\r\n" + b"x" * 9,), 200, b"x" * 8, True),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"), 204, b"", False),
    ],
)
def test_an_answer_is_told_as_it_is(answer: tuple[bytes, ...], status: int, body: bytes, *, cut: bool) -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(*answer)) as port:
            result = await one.get(port, body_limit=8)
        assert result.outcome == DONE
        assert (result.http_status, result.body, result.body_cut) == (status, body, cut)
        assert 0 < result.latency_secs < 20
        assert result.error == ""

    probing(test)


def test_what_is_asked() -> None:
    heard: list[bytes] = []

    async def test(one: Probing) -> None:
        async with serving(saying(OK + b"\r\n", heard=heard)) as port:
            headers = [pb.HttpHeader(name="Host", value="example.org"), pb.HttpHeader(name="X-Probe", value="1")]
            await one.get(port, "/up?x=1", headers=headers)
        assert heard[0].startswith(b"GET /up?x=1 HTTP/1.1\r\nHost: example.org\r\nUser-Agent: trivet\r\n")
        assert b"X-Probe: 1\r\n" in heard[0]
        assert b"localhost" not in heard[0]
        # Refused here, without a word to the server, and without the value.
        result = await one.get(1, headers=[pb.HttpHeader(name="X", value="secret\r\nEvil: 1")])
        assert (result.outcome, result.error) == (NO_ANSWER, "http.headers[0].value: holds a line break or NUL")

    probing(test)


@pytest.mark.parametrize(
    "ending", ["Content-Length: 2\r\n\r\nok", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
def test_a_server_that_keeps_the_connection_does_not_keep_the_answer(ending: str) -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(OK + b"Connection: keep-alive\r\n" + ending.encode(), stay=True)) as port:
            before = open_sockets()
            result = await one.get(port)
            assert (result.outcome, result.body) == (DONE, b"ok")
            await settle(lambda: open_sockets() <= before)

    probing(test)


def test_ipv6() -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(OK + b"\r\nsix"), "::1") as port:
            assert (await one.get(port)).body == b"six"
            assert (await one.get(port, loopback=pb.LOOPBACK_IPV6)).body == b"six"
            refused = await one.get(port, loopback=pb.LOOPBACK_IPV4)
            assert (refused.outcome, refused.error) == (NO_ANSWER, "Connection refused")
        async with serving(saying(OK + b"\r\nfour")) as port:
            assert (await one.get(port)).body == b"four"
            refused = await one.get(port, loopback=pb.LOOPBACK_IPV6)
            assert (refused.outcome, refused.error) == (NO_ANSWER, "Connection refused")

    probing(test)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the connection was closed"),
        (b"SSH-2.0-OpenSSH_9\r\n", r"not an HTTP response: b'SSH-2.0-OpenSSH_9'"),
        (b"\0\x1b[31m\xff\r\n", "not an HTTP response: b'\\x00\\x1b[31m\\xff'"),
        (OK + b"Content-Length: 9\r\n\r\nshort", "the connection was closed inside the body"),
        (OK + b"Content-Length: x\r\n\r\n", "content-length is not a number"),
        (OK + b"X: " + b"x" * 20_000 + b"\r\n\r\n", "header line too long"),
        (OK + b"X: x\r\n" * 1000, "too many headers"),
    ],
)
def test_what_is_not_http_is_no_answer(answer: bytes, why: str) -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(answer)) as port:
            result = await one.get(port)
        assert (result.outcome, result.error) == (NO_ANSWER, why)

    probing(test)


def test_nobody_there() -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as port:
            pass
        result = await one.get(port)
        assert (result.outcome, result.error) == (NO_ANSWER, "Connection refused")
        for none in (0, 65536):
            result = await one.get(none)
            assert (result.outcome, result.error) == (NO_ANSWER, f"http.port: {none} is no port")

    probing(test)


@pytest.mark.parametrize("said", [b"", OK, OK + b"Content-Length: 9\r\n\r\nbegun"])
def test_a_reset_in_the_middle_is_no_answer(said: bytes) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def test(one: Probing) -> None:
        async with serving(reset) as port:
            result = await one.get(port)
        assert (result.outcome, result.error) == (NO_ANSWER, "Connection reset by peer")

    probing(test)


async def slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: never silent, never done."""
    writer.write(OK)
    while not reader.at_eof():
        writer.write(b"X")
        await asyncio.sleep(0.01)


async def slow_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hang, slow_head, slow_body, endless_headers])
def test_the_budget_is_for_all_of_it(answer: object) -> None:
    async def test(one: Probing) -> None:
        async with serving(answer) as port:  # type: ignore[arg-type] # all of them are answers
            before = open_sockets()
            result = await one.get(port, timeout_secs=0.3)
            assert (result.outcome, result.error) == (TIMEOUT, "no answer within 0.3 s")
            assert 0.3 <= result.latency_secs < 5
            await settle(lambda: open_sockets() <= before)

    probing(test)


def test_without_a_budget_it_may_take_its_time() -> None:
    async def test(one: Probing) -> None:
        go = asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            go.set()
            await asyncio.sleep(0.05)
            writer.write(OK + b"\r\nlate")

        async with serving(late) as port:
            for timeout in (0.0, float("inf"), float("nan"), -1.0):
                assert (await one.get(port, timeout_secs=timeout)).body == b"late"
        assert go.is_set()

    probing(test)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_a_huge_or_endless_body_costs_neither_memory_nor_time(framing: bytes) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(OK + framing + b"\r\n")
        piece = b"x" * 65536 if b"chunked" not in framing else b"10000\r\n" + b"x" * 65536 + b"\r\n"
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async def test(one: Probing) -> None:
        async with serving(flood) as port:
            before = open_sockets()
            await one.get(port)
            tracemalloc.start()
            try:
                began = time.monotonic()
                result = await one.get(port)
                assert time.monotonic() - began < 5
                # The server's buffers are in here, too.
                assert tracemalloc.get_traced_memory()[1] < 2_000_000
            finally:
                tracemalloc.stop()
            assert (result.outcome, result.body, result.body_cut) == (DONE, b"x" * 4096, True)
            assert (await one.get(port, body_limit=0)).body == b""
            # What is wanted is bounded, whoever wants it.
            huge = await one.get(port, body_limit=4_000_000_000)
            assert (len(huge.body), huge.body_cut) == (1 << 20, True)
            await settle(lambda: open_sockets() <= before)
        assert sent < 20_000_000

    probing(test)


def test_a_server_can_finish_a_body_that_nobody_wants() -> None:
    """Else it would write of broken pipes into the task's log."""
    broken: list[BaseException] = []
    finished = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        try:
            writer.write(OK + b"Content-Length: 50000\r\n\r\n")
            for _ in range(50):
                await asyncio.sleep(0.001)
                writer.write(b"x" * 1000)
                await writer.drain()
        except OSError as error:
            broken.append(error)
        finished.set()

    async def test(one: Probing) -> None:
        async with serving(answer) as port:
            result = await one.get(port, body_limit=0)
            assert (result.outcome, result.http_status, result.body_cut) == (DONE, 200, False)
            assert not finished.is_set()
            await asyncio.wait_for(finished.wait(), 20)
        assert not broken

    probing(test)
