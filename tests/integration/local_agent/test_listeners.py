"""The executor API's sockets in this process: what the kernel was asked for, what single turns of the loop do."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from services.local_agent.wire.endpoint import Endpoint
from services.local_agent.wire.listeners import Listeners
from tests.integration.local_agent.faults_control import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from services.local_agent.wire.connection import Connection
    from services.local_agent.wire.http import Request

TIMEOUT = 20.0
WHERE = pytest.mark.parametrize("kind", ["tcp", "unix"])
LATE = pytest.mark.parametrize("late", [False, True])


class Sockets:
    """One listener, of TCP or of a unix socket."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.path = str(directory / "s")
        self.port = 0
        self.listeners = Listeners()

    async def listen(self) -> None:
        if self.kind == "tcp":
            self.port = await self.listeners.listen_tcp(asyncio.Protocol, "127.0.0.1", 0)
        else:
            await self.listeners.listen_unix(asyncio.Protocol, self.path)

    async def refused(self) -> bool:
        if self.kind == "tcp":
            found = refused(self.port)
        else:
            with socket.socket(socket.AF_UNIX) as probe:
                found = probe.connect_ex(self.path) != 0
        for _ in range(20):
            # Until the probe's connection is accepted and over: it is no part of what comes next.
            await asyncio.sleep(0)
        return found

    def close(self) -> None:
        self.listeners.close()


def _run(kind: str, directory: Path, play: Callable[[Sockets], Awaitable[None]], *, late: bool = False) -> None:
    """Nothing is left open, nor made in the working directory."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_server

        async def create_late(*arguments: Any, **options: Any) -> asyncio.Server:
            # What asyncio does in between is its own affair: today nothing.
            await asyncio.sleep(0)
            server = await create(*arguments, **options)
            await asyncio.sleep(0)
            return server

        if late:
            loop.create_server = create_late  # type: ignore[method-assign]
        sockets = Sockets(kind, directory)
        await sockets.listen()
        assert not await sockets.refused()
        await play(sockets)
        sockets.close()
        assert await sockets.refused()
        assert sorted(map(os.readlink, _sockets())) == before

    before: list[str] = []
    here = sorted(os.listdir())

    async def measured() -> None:
        # The loop has sockets of its own.
        before.extend(sorted(map(os.readlink, _sockets())))
        await asyncio.wait_for(run(), TIMEOUT)

    asyncio.run(measured())
    assert sorted(os.listdir()) == here


def _sockets() -> list[str]:
    paths = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return [path for path in paths if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)]


@LATE
@WHERE
def test_listening_that_overlaps_with_itself_happens_once(
    kind: str, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def play(sockets: Sockets) -> None:
        for _ in range(3):
            await sockets.listeners.refuse(True)
            assert await sockets.refused()
            await asyncio.gather(*(sockets.listeners.refuse(False) for _ in range(3)))
            assert not await sockets.refused()

    sockets = tmp_path / "sockets"
    sockets.mkdir()
    _run(kind, sockets, play, late=late)


@LATE
@WHERE
@pytest.mark.parametrize("wishes", [(False, True), (True, False), (False, True, False), (False, True, False, True)])
def test_of_wishes_that_overlap_the_last_one_counts(
    kind: str, late: bool, wishes: tuple[bool, ...], tmp_path: Path
) -> None:
    async def play(sockets: Sockets) -> None:
        for first in (True, False):
            await sockets.listeners.refuse(first)
            await asyncio.gather(*map(sockets.listeners.refuse, wishes))
            assert await sockets.refused() is wishes[-1]

    _run(kind, tmp_path, play, late=late)


@LATE
@WHERE
def test_wish_of_a_caller_that_goes_away_is_carried_out(kind: str, late: bool, tmp_path: Path) -> None:
    async def play(sockets: Sockets) -> None:
        for wish in (True, False):
            wishing = asyncio.create_task(sockets.listeners.refuse(wish))
            await asyncio.sleep(0)
            wishing.cancel()
            await asyncio.wait([wishing])
            # Behind the one that was given up.
            async with sockets.listeners._change:
                assert await sockets.refused() is wish

    _run(kind, tmp_path, play, late=late)


@LATE
@WHERE
@pytest.mark.parametrize("turns", range(7))
def test_who_closes_while_listening_begins_leaves_nobody_listening(
    kind: str, late: bool, turns: int, tmp_path: Path
) -> None:
    async def play(sockets: Sockets) -> None:
        await sockets.listeners.refuse(True)
        beginning = asyncio.create_task(sockets.listeners.refuse(False))
        for _ in range(turns):
            await asyncio.sleep(0)
        sockets.close()
        await beginning
        assert await sockets.refused()

    _run(kind, tmp_path, play, late=late)


def test_an_address_that_was_lost_may_be_had_again_later(tmp_path: Path) -> None:
    async def play(sockets: Sockets) -> None:
        await sockets.listeners.refuse(True)
        # As if somebody had got the port between the end of one socket and the next one's beginning.
        [listener] = sockets.listeners._all
        assert listener.bound is not None
        listener.bound.close()
        listener.bound = None
        taken = rf"127\.0\.0\.1:{sockets.port}: Address already in use"
        with socket.create_server(("127.0.0.1", sockets.port)), pytest.raises(OSError, match=taken):
            await sockets.listeners.refuse(False)
        await sockets.listeners.refuse(False)
        assert not await sockets.refused()

    _run("tcp", tmp_path, play)


@WHERE
def test_an_error_while_listening_begins_leaves_nothing_open(kind: str, tmp_path: Path) -> None:
    async def play(sockets: Sockets) -> None:
        async def fail(*_: object, **options: Any) -> asyncio.Server:
            raise OSError(errno.ENOBUFS, f"{options['backlog']} are too many")

        loop = asyncio.get_running_loop()
        create = loop.create_server
        await sockets.listeners.refuse(True)
        loop.create_server = fail  # type: ignore[method-assign]
        with pytest.raises(OSError, match="128 are too many"):
            await sockets.listeners.refuse(False)
        assert await sockets.refused()
        loop.create_server = create  # type: ignore[method-assign]
        await sockets.listeners.refuse(False)
        assert not await sockets.refused()

    _run(kind, tmp_path, play)


class Server:
    """An endpoint that answers calls and opens a stream for `/subscribe`."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.endpoint = Endpoint(self._on_request, lambda _: None)
        self.port = 0

    def _on_request(self, connection: Connection, request: Request, stream: int) -> None:
        self.bodies.append(request.body)
        if request.body == b"subscribe":
            self.endpoint.open_stream(stream, connection, "application/json")
        else:
            connection.respond(202)


def _call(body: bytes, *headers: str) -> bytes:
    lines = ["POST /api/v1/executor HTTP/1.1", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _serve(play: Callable[[Server], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server()
        server.port = await server.endpoint.listen("127.0.0.1", 0)
        try:
            await asyncio.wait_for(play(server), TIMEOUT)
        finally:
            server.endpoint.close()

    asyncio.run(run())


def test_small_writes_are_not_held_back() -> None:
    async def play(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(_call(b"x"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202 ")
        [connection] = server.endpoint._connections
        assert connection._transport is not None
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        writer.close()

    _serve(play)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [b"subscribe", b"update"])
def test_nothing_is_followed_after_the_last_request_of_a_connection(first: bytes, together: bool) -> None:
    async def play(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        last, late = _call(first, "Connection: close"), _call(b"late")
        if together:
            writer.write(last + late)
        else:
            writer.write(last)
            assert await reader.readuntil(b"\r\n\r\n")
            writer.write(late)
        # On a later connection, whose request the loop takes after that of the earlier one.
        for _ in range(3):
            other, barrier = await asyncio.open_connection("127.0.0.1", server.port)
            barrier.write(_call(b"barrier"))
            assert (await other.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202 ")
            barrier.close()
        assert server.bodies == [first, *[b"barrier"] * 3]
        writer.close()

    _serve(play)
