"""The Attach stream, once for all services.

A driver opens the stream with Hello, one HelloTask a task and HelloEnd; the service answers with HelloAck, and then
both sides talk. There is at most one live stream an executor: a newer one, shown by its token to be the same executor,
ends the older one with ABORTED. The handler sees whole Hellos and then messages, in order, never two streams at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc

from services.common.keys import Executor
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.common.tokens import TokenStore

_LOG = logging.getLogger(__name__)

PROTOCOL = 1
VERSION = "0.1.0"
# Unsent messages until a driver counts as stuck; it says Hello again when it is back.
QUEUE_LIMIT = 50_000
# Seconds for a message on its way when the stream is ended; a frozen driver does not take it.
_LAST_WRITE = 0.5

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)


class Session(Generic[Out]):
    """One live stream of one executor's driver."""

    def __init__(self, hello: link_pb2.Hello) -> None:
        self.hello = hello
        self.executor = Executor.of(hello.executor)
        self.alive = True
        self.queue: asyncio.Queue[Out] = asyncio.Queue()
        self.ending: tuple[grpc.StatusCode, str] | None = None
        self.task: asyncio.Task[None] | None = None
        self.writing = False

    def send(self, message: Out) -> None:
        """Queues a message; messages to a stream that has ended are dropped, as the next Hello heals that."""
        if not self.alive:
            return
        if self.queue.qsize() >= QUEUE_LIMIT:
            self.end(grpc.StatusCode.RESOURCE_EXHAUSTED, "the driver does not read")
            return
        self.queue.put_nowait(message)

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the stream with a status. The driver redials and says Hello again."""
        if self.alive:
            self.alive = False
            self.ending = (code, details)
            if self.task is not None:
                self.task.cancel()


class Handler(Protocol[In_contra, Out]):
    """What a service does with its streams. Called on the event loop: must not block."""

    def on_hello(self, session: Session[Out], hello: link_pb2.Hello, tasks: list[link_pb2.HelloTask]) -> None:
        """A driver has said everything that is true there. HelloAck is queued already."""

    def on_message(self, session: Session[Out], message: In_contra) -> None:
        """Anything after the Hello."""

    def on_detach(self, session: Session[Out]) -> None:
        """The stream is gone, or replaced by a newer one."""


class AttachHub(Generic[In, Out]):
    """All live streams of a service."""

    def __init__(
        self,
        handler: Handler[In, Out],
        tokens: TokenStore,
        make_ack: Callable[[link_pb2.HelloAck], Out],
    ) -> None:
        self._handler = handler
        self._tokens = tokens
        self._make_ack = make_ack
        self._sessions: dict[Executor, Session[Out]] = {}
        self._closing = False

    async def serve(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Body of the servicer's `Attach`: returns when the stream ends."""
        if self._closing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping")
        hello, tasks = await self._read_hello(context)
        session: Session[Out] = Session(hello)
        await self._admit(session, context)
        session.task = asyncio.current_task()
        writer = asyncio.ensure_future(self._write(session, context))
        try:
            self._attach(session, tasks)
            while (message := await context.read()) is not grpc.aio.EOF:
                if not session.alive:
                    break
                self._handler.on_message(session, message)
        except asyncio.CancelledError:
            # Either ours (the session was ended, told below) or gRPC's (the driver is gone).
            if session.ending is None:
                raise
        except Exception:  # noqa: BLE001 - one executor's trouble must not end the service
            _LOG.exception("message could not be handled", extra={"fields": {"executor": session.executor.executor_id}})
            session.ending = (grpc.StatusCode.INTERNAL, "the service failed on a message; see its log")
        finally:
            self._detach(session)
            if session.ending is None:
                writer.cancel()
        if session.ending is not None:
            await _settled(writer, session)
            await context.abort(*session.ending)

    def close(self) -> None:
        """Ends all streams: the service stops. Drivers redial until the next one serves."""
        self._closing = True
        for session in list(self._sessions.values()):
            session.end(grpc.StatusCode.UNAVAILABLE, "the service is stopping")

    async def _read_hello(
        self, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tuple[link_pb2.Hello, list[link_pb2.HelloTask]]:
        first = await context.read()
        if first is grpc.aio.EOF or first.WhichOneof("message") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "hello: must be the first message")
        hello: link_pb2.Hello = first.hello
        if hello.protocol != PROTOCOL:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"hello.protocol: {hello.protocol}, this service speaks {PROTOCOL}"
            )
        if not (hello.executor.executor_id and hello.executor.incarnation and hello.token):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "hello: executor_id, incarnation and token must be set"
            )
        tasks: list[link_pb2.HelloTask] = []
        while True:
            message = await context.read()
            kind = None if message is grpc.aio.EOF else message.WhichOneof("message")
            if kind == "hello_task" and len(tasks) < hello.task_count:
                if message.hello_task.key.executor != hello.executor:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "hello_task.key.executor: not this executor")
                tasks.append(message.hello_task)
            elif kind == "hello_end" and len(tasks) == hello.task_count:
                return hello, tasks
            else:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"hello: {kind} after {len(tasks)} of {hello.task_count} tasks",
                )

    async def _admit(self, session: Session[Out], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        # The ids of an executor are no secret; its token is what makes it this executor.
        if not self._tokens.claim(session.executor, session.hello.token):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "hello.token: not this executor's")
        older = self._sessions.get(session.executor)
        if older is not None and older.hello.generation > session.hello.generation:
            await context.abort(grpc.StatusCode.ABORTED, "a newer driver is attached")

    def _attach(self, session: Session[Out], tasks: list[link_pb2.HelloTask]) -> None:
        older = self._sessions.get(session.executor)
        if older is not None:
            older.end(grpc.StatusCode.ABORTED, "a newer stream of this executor has come")
            self._detach(older)
        self._sessions[session.executor] = session
        session.send(self._make_ack(link_pb2.HelloAck(protocol=PROTOCOL, version=VERSION)))
        self._handler.on_hello(session, session.hello, tasks)

    def _detach(self, session: Session[Out]) -> None:
        session.alive = False
        if self._sessions.get(session.executor) is session:
            del self._sessions[session.executor]
            self._handler.on_detach(session)

    async def _write(self, session: Session[Out], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            while session.alive:
                message = await session.queue.get()
                session.writing = True
                await context.write(message)
                session.writing = False
        except (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            # The stream is over; the reading side notices, too.
            session.end(grpc.StatusCode.UNAVAILABLE, "the driver is gone")


async def _settled(writer: asyncio.Future[None], session: Session[Any]) -> None:
    """Ends the writer; a write that has begun is waited for, as gRPC takes no status before it is over."""
    try:
        if session.writing:
            await asyncio.wait([writer], timeout=_LAST_WRITE)
    finally:
        writer.cancel()
