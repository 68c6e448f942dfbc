"""Carries out the machine's actions: bytes, timers, containers. What comes of them goes back as inputs."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from services.local_agent.containers import choose, environment, users
from services.local_agent.containers.contract import Command, LaunchFailed
from services.local_agent.core import actions
from services.local_agent.core.step import Moment
from services.local_agent.faults.force import Faults
from services.local_agent.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.containers.contract import Forked, Limitation
    from services.local_agent.core.actions import Action, Timer
    from services.local_agent.core.machine import Machine
    from services.local_agent.core.model import Executor
    from services.local_agent.core.outcome import Outcome
    from services.local_agent.settings import Settings
    from services.local_agent.wire.connection import Connection
    from services.local_agent.wire.http import Request

    Job = Callable[[str], Awaitable[None]]
    Perform = Callable[[Outcome[None]], None]

_LOG = logging.getLogger(__name__)


def now() -> Moment:
    """This moment."""
    return Moment(time.time(), time.monotonic())


class Hands:
    """Endpoint, launcher and timers of one agent. Belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        *,
        on_request: Callable[[Connection, Request, int], None],
        perform: Perform,
        on_error: Callable[[str], None],
        on_refused: Callable[[str, int, str], None],
    ) -> None:
        """`perform` takes what an input caused; `on_error` is told why the agent cannot go on.

        `on_refused`: see `Endpoint`.
        """
        self._settings = settings
        self._machine = machine
        self._perform = perform
        self._on_error = on_error
        faults = Faults(settings.fault_seed, settings.faults)
        self.endpoint = Endpoint(on_request, machine.stream_closed, faults, on_refused)
        self.launcher = choose.make(self, settings.launcher, settings.work_dir)
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}

    def job(self, container_id: str) -> asyncio.Task[None] | None:
        """The launch or destroy of a container that is under way."""
        return self._jobs.get(container_id)

    async def settle(self) -> None:
        """Returns when no launch, destroy or end is under way: what happens to a process must not stay unrecorded."""
        while self._jobs or self.launcher.busy:
            await asyncio.gather(*self._jobs.values())
            await self.launcher.settle()

    def close(self) -> None:
        """Lets go of everything; containers stay."""
        self.endpoint.close()
        for handle in self._timers.values():
            handle.cancel()
        self.launcher.close()

    def act(self, action: Action, connection: Connection | None) -> None:
        """Does one thing; `connection` has the request in hand."""
        match action:
            case actions.SendEvent(stream, event):
                self.endpoint.send(stream, event)
            case actions.Respond(status, body, headers) if connection is not None:
                connection.respond(status, body, headers)
            case actions.OpenStream(stream, content_type, executor_id) if connection is not None:
                self.endpoint.open_stream(stream, connection, content_type, executor_id)
            case actions.EndStream(stream):
                self.endpoint.end_stream(stream)
            case actions.StartTimer(timer, seconds):
                self._cancel(timer)
                loop = asyncio.get_running_loop()
                self._timers[timer] = loop.call_later(seconds, self._timer_fired, timer)
            case actions.CancelTimer(timer):
                self._cancel(timer)
            case actions.LaunchContainer(container_id):
                self._start_job(container_id, self._launch)
            case actions.UpdateContainer(container_id):
                self.launcher.update(container_id, self._resources(container_id))
            case actions.DestroyContainer(container_id):
                self._start_job(container_id, self._destroy)
            case _:
                raise TypeError(f"no rule for {action}")

    def _timer_fired(self, timer: Timer) -> None:
        del self._timers[timer]
        self._perform(self._machine.timer_fired(timer, now()))

    def _cancel(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    # Containers.

    def container_exited(self, container_id: str, code: int | None, number: int | None) -> None:
        """See `contract.Reports`."""
        self._perform(self._machine.container_exited(container_id, code, number, now()))

    def container_limited(self, container_id: str, limitation: Limitation) -> None:
        """See `contract.Reports`."""
        outcome = self._machine.container_limited(container_id, limitation.message, limitation.resources, now())
        self._perform(outcome)

    def launcher_failed(self, why: str) -> None:
        """See `contract.Reports`."""
        self._on_error(why)

    def _start_job(self, container_id: str, job: Job) -> None:
        """One job at a time for a container: destroy waits for launch."""
        previous = self._jobs.get(container_id)

        async def run() -> None:
            if previous is not None:
                await asyncio.wait([previous])
            await job(container_id)

        self._jobs[container_id] = task = asyncio.create_task(run())
        task.add_done_callback(lambda done: self._job_done(container_id, done))

    def _job_done(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._jobs.get(container_id) is task:
            del self._jobs[container_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.critical("error in a container's job", exc_info=error)
            self._on_error(f"container {container_id}: {error}")

    async def _launch(self, container_id: str) -> None:
        executor = self._machine.state.containers[container_id]
        try:
            await self.launcher.launch(
                container_id,
                executor.sandbox,
                await self._command(executor),
                self._resources(container_id),
                lambda process: self._forked(container_id, process),
            )
        except LaunchFailed as error:
            self._perform(self._machine.container_failed(container_id, str(error), now()))

    def _forked(self, container_id: str, process: Forked) -> None:
        self._perform(self._machine.container_forked(container_id, process.pid, process.start_ticks, now()))

    def _resources(self, container_id: str) -> list[mesos_pb2.Resource]:
        """Of the executor and of all its tasks that have not ended (Mesos: allocatedResources)."""
        executor = self._machine.state.containers.get(container_id)
        if executor is None:
            return []
        tasks = [task for task in executor.tasks.values() if not task.terminal]
        return [*executor.info.resources, *(resource for task in tasks for resource in task.info.resources)]

    async def _destroy(self, container_id: str) -> None:
        if not await self.launcher.destroy(container_id):
            # No process is known: nothing will report its end.
            self._perform(self._machine.container_exited(container_id, None, None, now()))

    async def _command(self, executor: Executor) -> Command:
        """Raises LaunchFailed: there is no such user."""
        state = self._machine.state
        variables = environment.build(
            executor,
            state.frameworks[executor.framework_id],
            agent_id=state.agent_id,
            ip=self._settings.ip,
            port=state.port,
            flags=self._settings.environment_flags,
        )
        command = executor.info.command
        user = None
        if self._settings.launcher.switch_user:
            framework = state.frameworks[executor.framework_id]
            user = await asyncio.to_thread(users.resolve, command.user or framework.info.user)
        if command.shell:
            return Command("/bin/sh", ["sh", "-c", command.value], variables, user)
        return Command(command.value, list(command.arguments) or [command.value], variables, user)
