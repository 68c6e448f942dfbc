"""One agent's process: start, recovery, stop; between the machine, its log and its hands."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from services.common.journal import JournalUnavailable
from services.local_agent import store
from services.local_agent.containers.process_tree import read_process
from services.local_agent.core import actions
from services.local_agent.core.machine import Machine
from services.local_agent.core.phase import Phase
from services.local_agent.core.remarks import RefusedCall
from services.local_agent.core.step import Config
from services.local_agent.hands import Hands, now
from services.local_agent.remark_book import RemarkBook
from services.local_agent.scheduler import Scheduler
from services.local_agent.wire import domain_socket
from services.local_agent.wire.auth import Authenticator

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.local_agent.core.model import AgentState, Executor
    from services.local_agent.core.outcome import Outcome
    from services.local_agent.faults.force import Faults
    from services.local_agent.settings import Settings
    from services.local_agent.wire.connection import Connection
    from services.local_agent.wire.http import Request

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


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
            not_found_for=settings.not_found_for,
            unavailable_for=settings.unavailable_for,
            cleanup=settings.cleanup,
            abort_on_check_failure=settings.abort_on_check_failure,
            authenticator=_authenticator(settings),
        )
        self._new_uuid = _uuids(settings.seed, state.starts)
        self._machine = Machine(state, config, lambda: self._new_uuid().bytes)
        self._hands = Hands(
            settings,
            self._machine,
            on_request=self._request,
            perform=self.perform,
            on_error=self._fail,
            on_refused=self._refused,
        )
        # What was wrong with calls.
        self.remarks = RemarkBook()
        self.scheduler = Scheduler(settings, self._machine, self._hands, self.perform, self._new_uuid)
        # Done when the agent cannot go on, above all because its log cannot be written; the result says why.
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ready = asyncio.Event()
        # Done when the agent has left its master (SIGUSR1, --recover=cleanup) and nothing is left to do.
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recovery: asyncio.Task[None] | None = None
        # Boot id of the process before this one, and its executors that this one does not know any more.
        self._old_boot = state.boot_id
        self._forgotten: list[Executor] = []
        # That process died while it shut them down.
        self._left_behind = False

    @property
    def state(self) -> AgentState:
        """For reading."""
        return self._machine.state

    @property
    def faults(self) -> Faults:
        """What is in force."""
        return self._hands.endpoint.faults

    async def apply_listening(self) -> None:
        """See `Endpoint.apply_listening`."""
        await self._hands.endpoint.apply_listening()

    async def start(self) -> None:
        """Listens and finds the containers of an earlier process again; `ready` follows by itself.

        Returns earlier, before the containers, when executors are to hear 404 for a while.

        Raises:
            OSError: The address cannot be used.
            JournalUnavailable: The log cannot be written.
        """
        port = await self._listen()
        if self._settings.domain_socket is not None:
            await self._hands.endpoint.listen_unix(self._settings.domain_socket)
        self._left_behind = self.state.leaving
        known_id = "" if self._left_behind else self.state.agent_id
        agent_id = known_id or store.new_agent_id(self._new_uuid())
        before = list(self.state.executors())
        outcome = self._machine.start(agent_id, store.boot_id(), port, now())
        self._forgotten = [executor for executor in before if executor.container_id not in self.state.containers]
        self._store.append(outcome.records)
        self._carry_out(outcome, None)
        if self._recovery is not None:
            await asyncio.wait([self._recovery])

    async def _recover(self) -> None:
        """Finds the containers of an earlier process again."""
        launcher = self._hands.launcher
        same_boot = self._old_boot == self.state.boot_id
        for executor in self.state.executors():
            if same_boot and await self._adopt(executor):
                continue
            if same_boot and executor.pid:
                left = (executor.pid, executor.start_ticks, executor.sandbox)
                killed = await asyncio.to_thread(launcher.kill_orphans, *left)
                if killed:
                    fields = {"container": executor.container_id, "processes": len(killed)}
                    _LOG.info("orphans of a container destroyed", extra={"fields": fields})
            self.perform(self._machine.container_exited(executor.container_id, None, None, now()))
        for executor in self._forgotten if same_boot and self._left_behind else ():
            if await self._adopt(executor):
                await launcher.destroy(executor.container_id)
        await launcher.remove_unknown()
        launcher.reap_unknown()
        for executor in self._forgotten if same_boot and not self._left_behind else ():
            row = read_process(executor.pid)
            if row is not None and row.start_ticks == executor.start_ticks and row.state not in "ZX":
                fields = {"executor": executor.executor_id, "framework": executor.framework_id, "pid": executor.pid}
                why = "not recovered, still runs: its framework does not checkpoint"
                _LOG.warning(why, extra={"fields": fields})
        self.perform(self._machine.containers_recovered(now()))

    def _recovery_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOG.critical("error in recovery", exc_info=error)
            self._fail(f"recovery: {error}")

    async def _listen(self) -> int:
        known = self._settings.port or self.state.port
        try:
            return await self._hands.endpoint.listen(self._settings.ip, known)
        except OSError:
            if self._settings.port or not known or any(self.state.executors()):
                # Executors of the last run would look for the agent where it was.
                raise
            return await self._hands.endpoint.listen(self._settings.ip, 0)

    def leave(self) -> None:
        """Leaves the master as Mesos' agent does at SIGUSR1: SHUTDOWN to all executors; `left` follows."""
        self.perform(self._machine.leave(now()))

    async def stop(self, *, destroy: bool) -> None:
        """Ends the process' part. Executors live on unless `destroy`."""
        self.scheduler.stopping = True
        if destroy:
            self.perform(self._machine.recover_early(now()))
        if self._recovery is not None and not self._recovery.done():
            # Adoption takes milliseconds; what it has half done could not be destroyed.
            await asyncio.wait([self._recovery])
        if destroy:
            self.perform(self._machine.destroy_all(now()))
        await self._hands.settle()
        if destroy:
            await self._hands.launcher.wait_idle()
        self._hands.close()
        if destroy and self._settings.domain_socket is not None:
            domain_socket.remove(self._settings.domain_socket)

    async def _adopt(self, executor: Executor) -> bool:
        launcher = self._hands.launcher
        pid, start_ticks = executor.pid, executor.start_ticks
        if not pid:
            # The agent was killed between fork and log.
            found = await asyncio.to_thread(launcher.find, executor.container_id, executor.sandbox)
            if found is None:
                return False
            pid, start_ticks = found.pid, found.start_ticks
            self.perform(self._machine.container_forked(executor.container_id, pid, start_ticks, now()))
        return launcher.adopt(executor.container_id, pid, start_ticks)

    def _request(self, connection: Connection, request: Request, stream: int) -> None:
        self.perform(self._machine.request(request, stream, now()), connection)

    def _refused(self, what: str, status: int, body: str) -> None:
        self.remarks.take([RefusedCall("", what, status, body)], now().monotonic)

    def perform(self, outcome: Outcome[T], connection: Connection | None = None) -> T:
        """Writes what an input caused to the log, and then does it; returns the answer for the input's sender.

        Nothing is done once the log could not be written: `Scheduler.unwritten` says so.
        """
        if self.scheduler.unwritten:
            # It may follow from what was not recorded, and a log with a gap could not be replayed.
            return outcome.answer
        try:
            self._store.append(outcome.records)
        except JournalUnavailable as error:
            # As Mesos' agent: what it cannot record it must not do, and it has already decided.
            self.scheduler.unwritten = str(error)
            self._fail(str(error))
            return outcome.answer
        self.remarks.take(outcome.remarks, now().monotonic)
        self._compact()
        self._carry_out(outcome, connection)
        return outcome.answer

    def _carry_out(self, outcome: Outcome[Any], connection: Connection | None) -> None:
        for action in outcome.actions:
            match action:
                case actions.Notify() | actions.AwaitAcknowledgement() | actions.PassMessage():
                    self.scheduler.act(action)
                case actions.RecoverContainers():
                    self._recovery = asyncio.create_task(self._recover())
                    self._recovery.add_done_callback(self._recovery_done)
                case actions.EndAgent():
                    self._hands.endpoint.end_streams()
                    if not self.left.done():
                        self.left.set_result(None)
                case actions.Abort(why):
                    _LOG.critical("check failed, abort", extra={"fields": {"why": why}})
                    # Of an interpreter nobody reads the core.
                    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                    os.abort()
                case _:
                    self._hands.act(action, connection)
        if self._machine.phase is Phase.READY:
            self.ready.set()

    def _compact(self) -> None:
        try:
            self._store.compact_if_due(self.state)
        except JournalUnavailable as error:
            # The long log stands; the next try comes when it has grown by as much again.
            _LOG.warning("log not compacted", extra={"fields": {"error": str(error)}})

    def _fail(self, why: str) -> None:
        if not self.failed.done():
            self.failed.set_result(why)


def _uuids(seed: int | None, starts: int) -> Callable[[], uuid.UUID]:
    """Random ones; with a seed the same in every run.

    `starts`: processes before this one, whose uuids must not come again.
    """
    if seed is None:
        return uuid.uuid4
    source = random.Random(f"{seed}:{starts}")  # noqa: S311 - reproducible is what is asked for
    return lambda: uuid.UUID(bytes=source.randbytes(16), version=4)


def _authenticator(settings: Settings) -> Authenticator | None:
    key = settings.environment_flags.jwt_secret_key
    return Authenticator(key) if settings.authenticate_http_executors and key is not None else None
