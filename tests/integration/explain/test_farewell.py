"""A driver's last words: read by a service that reads, waited for no longer than a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from executor_shim.driver.links.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

METHOD = "/test.Service/Attach"


class PeerDouble:
    """Marks the link as up with the first answer."""

    def __init__(self) -> None:
        self.link: Link[bytes, bytes] | None = None
        self.heard: list[bytes] = []
        self.up = asyncio.Event()

    def hello(self) -> Iterable[bytes]:
        return [b"hello"]

    def on_message(self, message: bytes) -> None:
        assert self.link is not None
        self.heard.append(message)
        self.link.acknowledged()
        self.up.set()

    def on_down(self) -> None:
        pass


class ServiceDouble:
    """Answers the Hello and reads, when it is let, until the end of the stream."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.streams = 0
        self.reads = asyncio.Event()

    async def attach(self, _: object, context: Any) -> None:
        self.streams += 1
        self.read.append(await context.read())
        await context.write(b"ack")
        await self.reads.wait()
        while (message := await context.read()) is not grpc.aio.EOF:
            self.read.append(message)
            await context.write(b"late")


async def talk(path: Path) -> tuple[ServiceDouble, PeerDouble, asyncio.Task[None], grpc.aio.Server]:
    service, peer = ServiceDouble(), PeerDouble()
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "test.Service", {"Attach": grpc.stream_stream_rpc_method_handler(service.attach)}
    )
    server.add_generic_rpc_handlers((handler,))
    address = f"unix:{path}/s.sock"
    server.add_insecure_port(address)
    await server.start()
    ready = asyncio.Event()
    ready.set()
    link: Link[bytes, bytes] = Link("test", address, METHOD, peer, ready=ready, encode=bytes, decode=bytes)
    peer.link = link
    run = asyncio.ensure_future(link.run())
    await asyncio.wait_for(peer.up.wait(), 30)
    return service, peer, run, server


def test_all_that_was_said_is_read_and_nothing_is_dialled_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        service, peer, run, server = await talk(tmp_path)
        service.reads.set()
        words = [f"word {number}".encode() for number in range(1000)]
        assert peer.link is not None
        for word in words:
            peer.link.send(word)
        peer.link.finish()
        peer.link.send(b"after the end")
        await asyncio.wait_for(run, 30)
        assert service.read == [b"hello", *words]
        assert (service.streams, peer.heard) == (1, [b"ack"])
        await server.stop(None)

    asyncio.run(scenario())


def test_a_service_that_does_not_read_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        service, peer, run, server = await talk(tmp_path)
        assert peer.link is not None
        peer.link.send(b"word")
        peer.link.finish()
        done, _ = await asyncio.wait([run], timeout=0.1)
        assert not done
        run.cancel()
        await asyncio.wait([run], timeout=30)
        assert run.cancelled()
        assert not peer.link.up
        await server.stop(None)
        assert service.streams == 1

    asyncio.run(scenario())
