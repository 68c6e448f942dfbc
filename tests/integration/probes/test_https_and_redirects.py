"""TLS with certificates that nobody vouches for, and where redirects lead."""

from __future__ import annotations

import asyncio
import socket

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
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


def moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("certificate", ["self-signed", "expired"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_certificate_is_not_verified(certificate: str, host: str) -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(HELLO, stay=True), host, certificate) as port:
            before = open_sockets()
            result = await one.get(port, tls=True)
            assert (result.outcome, result.http_status, result.body) == (DONE, 200, b"hello")
            await settle(lambda: open_sockets() <= before)

    probing(test)


def test_a_long_body_over_tls() -> None:
    async def test(one: Probing) -> None:
        pieces = [OK + b"Transfer-Encoding: chunked\r\n\r\n"] + [b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 9
        async with serving(saying(*pieces, b"0\r\n\r\n"), certificate="self-signed") as port:
            result = await one.get(port, tls=True, body_limit=1 << 20)
            assert result.body == b"x" * 9 * 0x8000
            assert (await one.get(port, tls=True, body_limit=10)).body_cut
        # The end of the connection is the end of the body.
        async with serving(saying(OK + b"\r\n", b"to the end"), certificate="self-signed") as port:
            assert (await one.get(port, tls=True)).body == b"to the end"

    probing(test)


def test_tls_on_a_plain_port_and_the_reverse() -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(HELLO)) as port:
            before = open_sockets()
            result = await one.get(port, tls=True, timeout_secs=0.3)
            # It waits for the end of a line that never comes.
            assert (result.outcome, result.error) == (TIMEOUT, "no answer within 0.3 s")
            await settle(lambda: open_sockets() <= before)

        async def talkative(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with serving(talkative) as port:
            result = await one.get(port, tls=True)
            assert (result.outcome, result.error) == (NO_ANSWER, "TLS handshake: wrong version number")

        async with serving(saying(HELLO), certificate="self-signed") as port:
            result = await one.get(port)
            assert result.outcome == NO_ANSWER
            # OpenSSL may say why, or just close.
            assert result.error.startswith(("not an HTTP response, but TLS", "the connection was closed"))

    probing(test)


async def closing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


@pytest.mark.parametrize(("answer", "outcome"), [(closing, NO_ANSWER), (hang, TIMEOUT)])
def test_a_handshake_that_does_not_end(answer: object, outcome: int) -> None:
    async def test(one: Probing) -> None:
        async with serving(answer) as port:  # type: ignore[arg-type] # both are answers
            result = await one.get(port, tls=True, timeout_secs=0.5 if outcome == TIMEOUT else 20)
        assert result.outcome == outcome
        if outcome == NO_ANSWER:
            assert result.error in {"the connection was closed inside the TLS handshake", "Connection reset by peer"}

    probing(test)


def test_a_reset_inside_tls_is_no_answer() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(OK + b"Content-Length: 9\r\n\r\nbegun")
        await writer.drain()
        writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        writer.transport.abort()

    async def test(one: Probing) -> None:
        async with serving(reset, certificate="self-signed") as port:
            result = await one.get(port, tls=True)
        assert result.outcome == NO_ANSWER
        assert result.error in {"the connection was closed inside the body", "Connection reset by peer"}

    probing(test)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_another_port_and_into_tls(status: int) -> None:
    heard: list[bytes] = []

    async def test(one: Probing) -> None:
        async with serving(saying(HELLO, heard=heard), certificate="expired") as end:
            first = saying(moved(f"https://127.0.0.1:{end}/there?x=1#part", status), heard=heard)
            async with serving(first) as port:
                headers = [pb.HttpHeader(name="Authorization", value="s3cret"), pb.HttpHeader(name="X-A", value="b")]
                result = await one.get(port, "/here", max_redirects=10, headers=headers)
                assert (result.outcome, result.http_status, result.body) == (DONE, 200, b"hello")
                assert result.location == ""
                assert heard[0].startswith(b"GET /here ")
                assert b"s3cret" in heard[0]
                assert heard[1].startswith(b"GET /there?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % end)
                assert b"s3cret" not in heard[1]
                assert b"X-A: b\r\n" in heard[1]

    probing(test)


def test_relative_ones_stay_where_they_are() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await head(reader)
        heard.append(request.split()[1])
        answers = {b"/a/b": "../c", b"/c": "?d", b"/c?d": "//localhost:{port}/e", b"/e": "f"}
        location = answers.get(heard[-1])
        port = writer.get_extra_info("sockname")[1]
        writer.write(moved(location.replace("{port}", str(port))) if location else HELLO)
        assert b"s3cret" in request

    async def test(one: Probing) -> None:
        # Only on ::1: the family that was asked for holds for redirects by name.
        async with serving(answer, "::1") as port:
            headers = [pb.HttpHeader(name="Cookie", value="s3cret")]
            result = await one.get(port, "/a/b", max_redirects=4, headers=headers, loopback=pb.LOOPBACK_IPV6)
            assert result.body == b"hello"
        assert heard == [b"/a/b", b"/c", b"/c?d", b"/e", b"/f"]

    probing(test)


@pytest.mark.parametrize(
    "location", ["http://example.org/x", "//10.1.2.3/", "http://169.254.169.254/", "ftp://localhost/", "http://[", "/"]
)
def test_one_that_leads_out_is_the_answer_itself(location: str) -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(moved(location))) as port:
            # The last one would be followed, if any were.
            result = await one.get(port, max_redirects=0 if location == "/" else 10)
        assert (result.outcome, result.http_status, result.location) == (DONE, 302, location)

    probing(test)


def test_what_is_no_redirect_is_the_answer() -> None:
    async def test(one: Probing) -> None:
        for answer in (b"HTTP/1.1 302 Found\r\n\r\n", b"HTTP/1.1 300 Choices\r\nLocation: /x\r\n\r\n"):
            async with serving(saying(answer)) as port:
                result = await one.get(port, max_redirects=10)
            assert (result.outcome, result.http_status, result.location) == (DONE, int(answer.split()[1]), "")

    probing(test)


def test_a_loop_ends() -> None:
    heard: list[bytes] = []

    async def test(one: Probing) -> None:
        async with serving(saying(moved("/again"), heard=heard)) as port:
            result = await one.get(port, max_redirects=10)
        assert (result.outcome, result.error) == (NO_ANSWER, "more than 10 redirects")
        assert len(heard) == 11

    probing(test)


def test_the_budget_is_for_all_hops_and_a_dead_end_is_no_answer() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        await asyncio.sleep(0.1)
        writer.write(moved("/again"))

    async def test(one: Probing) -> None:
        async with serving(slow) as port:
            result = await one.get(port, max_redirects=1000, timeout_secs=0.35)
        assert (result.outcome, result.error) == (TIMEOUT, "no answer within 0.35 s")
        async with serving(hang) as nobody:
            pass
        async with serving(saying(moved(f"http://localhost:{nobody}/"))) as port:
            result = await one.get(port, max_redirects=1)
        assert (result.outcome, result.error) == (NO_ANSWER, "Connection refused")

    probing(test)


def test_what_a_location_may_hold_is_one_harmless_line() -> None:
    async def test(one: Probing) -> None:
        async with serving(saying(moved("http://evil/\x1b[31m\x07\xe9" + "x" * 5000))) as port:
            result = await one.get(port, max_redirects=1)
        assert result.location.startswith("http://evil/ [31m ")
        assert len(result.location) == 500

    probing(test)
