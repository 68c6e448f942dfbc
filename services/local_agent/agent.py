"""Carries out what the machine wants, and gives it what happens: sockets, processes, timers, log."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from typing import TYPE_CHECKING, TypeVar

from services.common.journal import JournalUnavailable
from services.local_agent import store
from services.local_agent.containers import environment
from services.local_agent.containers.posix import Command, LaunchFailed, PosixLauncher
from services.local_agent.containers.process_tree import find_session_leader
from services.local_agent.core import actions, launch_validation
from services.local_agent.core.machine import Machine, Phase
from services.local_agent.core.step import Config, Moment
from services.local_agent.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.actions import Action, Timer
    from services.local_agent.core.machine import Outcome
    from services.local_agent.core.model import AgentState, Executor
    from services.local_agent.core.tasks import Killed, Launched
    from services.local_agent.settings import Settings
    from services.local_agent.wire.endpoint import Connection
    from services.local_agent.wire.http import Request
    from trivet.agent.v1 import agent_pb2

    Job = Callable[[str], Awaitable[None]]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class NotReady(Exception):
    """The agent has not finished recovery, or it stops."""


class LocalAgent:
    """One running agent. Belongs to one event loop."""

    def __init__(self, settings: Settings, log: store.Store, state: AgentState) -> None:
        self._settings = settings
        self._store = log
        config = Config(
            ip=settings.ip,
            hostname=settings.hostname,
            resources=settings.resources,
            executor_registration_timeout=settings.executor_registration_timeout,
            executor_reregistration_timeout=settings.executor_reregistration_timeout,
            executor_shutdown_grace_period=settings.executor_shutdown_grace_period,
        )
        self._machine = Machine(state, config, lambda: uuid.uuid4().bytes)
        self._endpoint = Endpoint(self._request, self._machine.stream_closed)
        self._launcher = PosixLauncher(self._container_exited)
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._changes: dict[str, asyncio.Future[None]] = {}
        self._stopping = False
        # Done when the agent cannot go on, above all because its log cannot be written; the result says why.
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.Event()

    @property
    def state(self) -> AgentState:
        """For reading."""
        return self._machine.state

    async def start(self) -> None:
        """Listens, finds the containers of an earlier process again, and opens the re-registration window.

        Raises:
            OSError: The address cannot be used.
            JournalUnavailable: The log cannot be written.
        """
        state = self._machine.state
        port = await self._listen()
        boot = store.boot_id()
        old_boot = state.boot_id
        self._store.append(self._machine.start(state.agent_id or store.new_agent_id(), boot, port, _now()).records)
        for executor in state.executors():
            if old_boot != boot or not await self._adopt(executor):
                self._perform(self._machine.container_exited(executor.container_id, None, None, _now()))
        self._perform(self._machine.recovered(_now()))
        self._note_phase()

    async def _listen(self) -> int:
        known = self._settings.port or self.state.port
        try:
            return await self._endpoint.listen(self._settings.ip, known)
        except OSError:
            if self._settings.port or not known or any(self.state.executors()):
                # Executors of the last run would look for the agent where it was.
                raise
            return await self._endpoint.listen(self._settings.ip, 0)

    async def stop(self, *, destroy: bool) -> None:
        """Ends the process' part. Executors live on unless `destroy`."""
        self._stopping = True
        if destroy:
            self._perform(self._machine.destroy_all(_now()))
        # A process must not be started and then stay unrecorded.
        await asyncio.gather(*self._jobs.values())
        if destroy:
            await self._launcher.wait_idle()
        self._endpoint.close()
        for handle in self._timers.values():
            handle.cancel()
        self._launcher.close()

    async def _adopt(self, executor: Executor) -> bool:
        if not executor.pid:
            # The agent was killed between fork and log.
            variable = os.fsencode(f"MESOS_DIRECTORY={executor.sandbox}")
            leader = await asyncio.to_thread(find_session_leader, variable)
            if leader is None:
                return False
            self._perform(self._machine.container_forked(executor.container_id, leader.pid, leader.start_ticks, _now()))
        return self._launcher.adopt(executor.container_id, executor.pid, executor.start_ticks)

    # The scheduler's side.

    async def launch(self, request: agent_pb2.LaunchTaskRequest) -> tuple[Launched, str]:
        """Launches; returns when the executor's process runs. The string is the framework's id.

        Raises:
            NotReady: The agent still recovers.
            OrderRefused: Names the field that is wrong.
        """
        self._require_ready()
        framework, task = launch_validation.normalise(request, self.state)
        container_id = str(uuid.uuid4())
        sandbox = store.sandbox_path(
            self._settings.work_dir,
            agent_id=self.state.agent_id,
            framework_id=framework.framework_id,
            executor_id=task.executor.executor_id.value,
            container_id=container_id,
        )
        launched = self._perform(self._machine.launch(framework, task, container_id, sandbox, _now()))
        job = self._jobs.get(launched.container_id)
        if job is not None:
            await asyncio.wait([job])
        return launched, framework.framework_id

    def kill(self, task_id: str, policy: mesos_pb2.KillPolicy | None) -> Killed:
        """Passes a KILL on.

        Raises:
            NotReady: The agent still recovers.
        """
        self._require_ready()
        return self._perform(self._machine.kill(task_id, policy, _now()))

    def shut_down(self, executor: Executor) -> bool:
        """SHUTDOWN, and destroy after the grace period.

        Raises:
            NotReady: The agent still recovers.
        """
        self._require_ready()
        return self._perform(self._machine.shut_down(executor, _now()))

    def changed(self, task_id: str) -> asyncio.Future[None]:
        """Done when the scheduler gets the next status of the task. Shield it: it is shared."""
        if task_id not in self._changes:
            self._changes[task_id] = asyncio.get_running_loop().create_future()
        return self._changes[task_id]

    def _require_ready(self) -> None:
        if self._machine.phase is not Phase.READY:
            raise NotReady("the agent has not finished recovery")
        if self._stopping:
            raise NotReady("the agent stops")

    # Inputs.

    def _request(self, connection: Connection, request: Request, stream: int) -> None:
        self._perform(self._machine.request(request, stream, _now()), connection)

    def _container_exited(self, container_id: str, code: int | None, number: int | None) -> None:
        self._perform(self._machine.container_exited(container_id, code, number, _now()))

    def _timer_fired(self, timer: Timer) -> None:
        del self._timers[timer]
        self._perform(self._machine.timer_fired(timer, _now()))
        self._note_phase()

    def _note_phase(self) -> None:
        if self._machine.phase is Phase.READY:
            self.ready.set()

    # Actions.

    def _perform(self, outcome: Outcome[T], connection: Connection | None = None) -> T:
        try:
            self._store.append(outcome.records)
        except JournalUnavailable as error:
            # As Mesos' agent: what it cannot record it must not do, and it has already decided.
            if not self.failed.done():
                self.failed.set_result(str(error))
            return outcome.answer
        for action in outcome.actions:
            self._act(action, connection)
        return outcome.answer

    def _act(self, action: Action, connection: Connection | None) -> None:
        match action:
            case actions.SendEvent(stream, event):
                self._endpoint.send(stream, event)
            case actions.Respond(status, body, headers) if connection is not None:
                connection.respond(status, body, headers)
            case actions.OpenStream(stream, content_type) if connection is not None:
                self._endpoint.open_stream(stream, connection, content_type)
            case actions.EndStream(stream):
                self._endpoint.end_stream(stream)
            case actions.Notify(task_id):
                change = self._changes.pop(task_id, None)
                if change is not None and not change.done():
                    change.set_result(None)
            case actions.AwaitAcknowledgement(container_id, task_id, status_uuid):
                # This scheduler acknowledges everything, in the next turn of the loop.
                asyncio.get_running_loop().call_soon(self._acknowledge, container_id, task_id, status_uuid)
            case actions.StartTimer(timer, seconds):
                self._cancel(timer)
                loop = asyncio.get_running_loop()
                self._timers[timer] = loop.call_later(seconds, self._timer_fired, timer)
            case actions.CancelTimer(timer):
                self._cancel(timer)
            case actions.LaunchContainer(container_id):
                self._start_job(container_id, self._launch)
            case actions.DestroyContainer(container_id):
                self._start_job(container_id, self._destroy)
            case _:
                raise TypeError(f"no rule for {action}")

    def _acknowledge(self, container_id: str, task_id: str, status_uuid: bytes) -> None:
        self._perform(self._machine.scheduler_acknowledged(container_id, task_id, status_uuid, _now()))

    def _cancel(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

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
        if error is not None and not self.failed.done():
            _LOG.critical("error in a container's job", exc_info=error)
            self.failed.set_result(f"container {container_id}: {error}")

    async def _launch(self, container_id: str) -> None:
        executor = self.state.containers[container_id]
        try:
            forked = await self._launcher.launch(container_id, executor.sandbox, self._command(executor))
        except LaunchFailed as error:
            self._perform(self._machine.container_failed(container_id, str(error), _now()))
            return
        self._perform(self._machine.container_forked(container_id, forked.pid, forked.start_ticks, _now()))

    async def _destroy(self, container_id: str) -> None:
        if not await self._launcher.destroy(container_id):
            # No process is known: nothing will report its end.
            self._perform(self._machine.container_exited(container_id, None, None, _now()))

    def _command(self, executor: Executor) -> Command:
        variables = environment.build(
            executor,
            self.state.frameworks[executor.framework_id],
            agent_id=self.state.agent_id,
            ip=self._settings.ip,
            port=self.state.port,
            flags=self._settings.environment_flags,
        )
        command = executor.info.command
        if command.shell:
            return Command("/bin/sh", ["sh", "-c", command.value], variables)
        return Command(command.value, list(command.arguments) or [command.value], variables)


def _now() -> Moment:
    return Moment(time.time(), time.monotonic())
