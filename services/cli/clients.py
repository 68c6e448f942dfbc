"""gRPC clients that outlive restarts of what they talk to."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

# A service that comes back is found within this; unix sockets answer at once, so trying is cheap.
_RECONNECT_MS = 100
_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
    ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 20 << 20),
    ("grpc.max_send_message_length", 20 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
]
# What a restart of the other side looks like, or a pause. Everything else is an answer.
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # A frozen one; whoever waits too long for it bounds the waiting.
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
_PAUSE_SECS = 0.1


def open_channel(directory: str, name: str) -> grpc.aio.Channel:
    """A channel to the unix socket `directory`/`name`.sock, which need not exist yet."""
    return grpc.aio.insecure_channel("unix:" + os.path.join(directory, f"{name}.sock"), options=_OPTIONS)


async def serving(channel: grpc.aio.Channel) -> None:
    """Waits until the other side says SERVING (grpc.health.v1), however often it restarts meanwhile."""
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    async for answer in resumed(lambda: stub.Watch(request, wait_for_ready=True)):
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return


async def resumed(open_stream: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
    """Messages of a stream that is opened again whenever it breaks or ends.

    Raises:
        grpc.aio.AioRpcError: the other side refuses the call.
    """
    while True:
        try:
            async for message in open_stream():
                yield message
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                raise
        # wait_for_ready holds the next attempt back until somebody listens; this is for one that breaks every time.
        await asyncio.sleep(_PAUSE_SECS)


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of an idempotent call, which is repeated while the other side restarts.

    Raises:
        grpc.aio.AioRpcError: the other side refuses the call.
    """
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                raise
        await asyncio.sleep(_PAUSE_SECS)
