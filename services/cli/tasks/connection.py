"""Calls to the services. They wait for one that restarts, and say in words what went wrong."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar, Self

import grpc
import tenacity

from services.cli.clients import open_channel
from services.cli.tasks import address, note
from trivet.health.v1 import health_pb2_grpc
from trivet.reporter.v1 import reporter_pb2_grpc
from trivet.runner.v1 import runner_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from google.protobuf.message import Message

# A service that restarts replays its journals: thousands of tasks take a few seconds.
PATIENCE_SECS = 15.0
# Until somebody who waits is told for what.
_SILENCE_SECS = 3.0
_PAUSE_SECS = 0.1
# A log that finds no room among those that are being read asks again and again.
_MAX_PAUSE_SECS = 2.0
# The other side restarts, or says that it may be otherwise in a moment. Everything else is an answer.
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
# What to do about a refusal.
_HINTS = {
    grpc.StatusCode.DATA_LOSS: "`trivet journal FILE` shows what can be read of it",
}


class Refused(Exception):
    """A service refused a call, or did not answer; `code` is the gRPC status."""

    unknown: ClassVar[str]
    """What to do when it does not know the task."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code

    def lines(self) -> list[str]:
        """For people: what was said, and what to do."""
        hint = _HINTS.get(self.code, "")
        if self.code is grpc.StatusCode.NOT_FOUND and str(self).startswith("task_id: "):
            hint = self.unknown
        elif self.ambiguous:
            hint = "say --executor ID, and --framework ID if that is not enough"
        return [f"{self.code.name}: {self}", *([hint] if hint else [])]

    @property
    def ambiguous(self) -> bool:
        """Several executors have a task of that id."""
        return self.code is grpc.StatusCode.FAILED_PRECONDITION and "several executors" in str(self)


class RunnerRefused(Refused):
    """By the runner."""

    unknown = "`trivet ps --all` lists the tasks that the runner knows"


class HealthRefused(Refused):
    """By health."""

    unknown = "`trivet health` lists all checks, `trivet ps` all tasks"


class ReporterRefused(Refused):
    """By the reporter."""

    unknown = "`trivet ps --all` lists the tasks that the runner knows"


class Service:
    """A connection to the admin socket of a service in `directory`; a context manager."""

    name: ClassVar[str]
    words: ClassVar[str]
    """What people call it."""
    refused: ClassVar[type[Refused]]
    stub: ClassVar[Callable[[grpc.aio.Channel], Any]]

    def __init__(self, directory: str, *, patience: float = PATIENCE_SECS) -> None:
        """`patience`: seconds that a call waits for a service that is away."""
        self.directory = directory
        self._patience = patience
        self._channel = open_channel(directory, f"{self.name}-admin")
        self._stub = type(self).stub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def ask(self, method: str, request: Message) -> Any:
        """The answer of one unary call, all of which are idempotent.

        Raises:
            Refused: it is refused, or there is no answer in time.
        """
        deadline = time.monotonic() + self._patience
        call = getattr(self._stub, method)
        reminder = asyncio.get_running_loop().call_later(_SILENCE_SECS, self._remind)
        try:
            async for attempt in tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception(_passes),
                stop=tenacity.stop_after_delay(self._patience),
                wait=tenacity.wait_fixed(_PAUSE_SECS),
                reraise=True,
            ):
                with attempt:
                    return await call(request, timeout=max(deadline - time.monotonic(), 0.0), wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise await self._refusal(error) from None
        finally:
            reminder.cancel()
        raise AssertionError("the last attempt raises")

    async def stream(
        self,
        method: str,
        request: Callable[[], Message],
        *,
        away: Callable[[str], None],
        patience: float | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Messages of a streaming call, which is opened again whenever it breaks, until the service ends it.

        Args:
            method: name of the RPC.
            request: makes the request each time it is opened.
            away: told once, in words, each time it breaks.
            patience: seconds without any message until it is given up; None: never.

        Raises:
            Refused: the call is refused, or `patience` is over.
        """
        broken_at: float | None = None
        pause = _PAUSE_SECS
        while True:
            call = getattr(self._stub, method)(request(), wait_for_ready=True)
            limit = None if patience is None else (broken_at or time.monotonic()) + patience
            try:
                while True:
                    # Only the first message is waited for with a limit: a call that is answered may be silent for long.
                    left = None if limit is None else max(limit - time.monotonic(), 0.0)
                    message = await asyncio.wait_for(call.read(), left)
                    if message is grpc.aio.EOF:
                        return
                    broken_at = limit = None
                    pause = _PAUSE_SECS
                    yield message
            except TimeoutError:
                raise await self._silence() from None
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSING:
                    raise await self._refusal(error) from None
                if broken_at is None:
                    broken_at = time.monotonic()
                    away(await self._why(error))
                elif patience is not None and time.monotonic() - broken_at > patience:
                    raise await self._refusal(error) from None
            finally:
                call.cancel()
            # wait_for_ready holds the next attempt back until somebody listens; this is for one that breaks each time.
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECS)

    def _remind(self) -> None:
        note(f"no answer yet from {self.words} in {self.directory}; waiting up to {self._patience:g} s")

    async def _refusal(self, error: grpc.aio.AioRpcError) -> Refused:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return await self._silence()
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return self.refused(error.code(), f"{self.words} does not know this call: it is of an older version")
        if error.code() in _PASSING:
            return self.refused(error.code(), await self._why(error))
        return self.refused(error.code(), error.details() or "")

    async def _silence(self) -> Refused:
        why = await asyncio.to_thread(address.state, self.directory, self.name, self.words)
        why = why or f"{self.directory}: {self.words} takes connections and does not answer: it starts, or is frozen"
        return self.refused(grpc.StatusCode.UNAVAILABLE, f"{why}; start it (`trivet up --dir DIR`), or try again")

    async def _why(self, error: grpc.aio.AioRpcError) -> str:
        """What a broken call means: nobody is there, or what the service itself has said."""
        why = await asyncio.to_thread(address.state, self.directory, self.name, self.words)
        return why or error.details() or error.code().name


class Runner(Service):
    """A connection to the runner."""

    name = "runner"
    words = "the runner"
    refused = RunnerRefused
    stub = runner_pb2_grpc.RunnerServiceStub


class Health(Service):
    """A connection to health."""

    name = "health"
    words = "health"
    refused = HealthRefused
    stub = health_pb2_grpc.HealthCheckServiceStub


class Reporter(Service):
    """A connection to the reporter."""

    name = "reporter"
    words = "the reporter"
    refused = ReporterRefused
    stub = reporter_pb2_grpc.ReporterServiceStub


def _passes(error: BaseException) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in _PASSING
