"""`trivet run`: one task, from launch to its last status."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import grpc

from mesos.v1 import mesos_pb2
from services.cli import executor, layout, signals
from services.cli.children import StackFailed
from services.cli.clients import answered, open_channel, serving
from services.cli.events import end_event, exit_status
from services.cli.interrupts import Interrupts, kill_when_interrupted
from services.cli.layout import Layout, LayoutError
from services.cli.prepare import CannotStart, Prepared, prepare
from services.cli.stack import Stack
from services.cli.taskinfo import framework
from services.cli.views import Launched, View, choose
from services.cli.waiting import first, within
from services.cli.watches import follow_processes, follow_statuses
from trivet.agent.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    import argparse

CANNOT_START = 2
FAILED = 1
INTERRUPTED = signals.INTERRUPTED

_LAUNCH_SECS = 30.0
_SERVICES_SECS = 10.0
# The runner tells of the task's end before the executor does; this is for one that is just being restarted.
_SETTLE_SECS = 5.0
# Of an end that the agent found out, the runner need not know.
_SETTLE_WITHOUT_EXECUTOR_SECS = 1.0
_EXECUTOR_SECS = 3.0


class _Abandoned(Exception):
    """The user does not want to wait for the task's end."""


def run(options: argparse.Namespace) -> int:
    """Runs the task; returns the exit status."""
    where: Layout | None = None
    started = False
    status = CANNOT_START
    ended = _Ended()
    try:
        services = layout.find_services(options.services) if options.services else None
        where = Layout(os.path.abspath(options.dir)) if options.dir else layout.temporary()
        where.make()
        prepared = prepare(options, services or where.run)
        for warning in prepared.warnings:
            print(f"trivet: warning: {warning}", file=sys.stderr)
        lock = where.lock()
        started = True
        with signals.held_back():
            try:
                asyncio.run(_run(options, where, services, prepared, ended))
            except KeyboardInterrupt:
                # It came in the instant in which nobody listened any more: all was over.
                if ended.status is None:
                    raise
            status = FAILED if ended.status is None else ended.status
        os.close(lock)
    except CannotStart as error:
        for line in error.lines:
            print(f"trivet: {line}", file=sys.stderr)
    except LayoutError as error:
        print(f"trivet: {error}", file=sys.stderr)
    except StackFailed as error:
        print(f"trivet: {error}", file=sys.stderr)
        status = FAILED
    except grpc.aio.AioRpcError as error:
        print(f"trivet: {error.code().name}: {error.details()}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        sys.stderr.write(signals.LINE)
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    if where is not None and not options.dir:
        # Of what was interrupted before its launch there is nothing to keep.
        started = started and (ended.launched or status != INTERRUPTED)
        _tidy(where, started=started, everything=options.keep or status not in (0, INTERRUPTED))
    return status


def _tidy(where: Layout, *, started: bool, everything: bool) -> None:
    """The sandbox stays in any case, the rest when there may be something to find out."""
    if not started:
        where.remove()
    elif everything:
        print(f"trivet: everything of this run is kept in {where.root}", file=sys.stderr)
    else:
        where.remove_all_but_sandboxes()


class _Ended:
    """What `_run` has come to."""

    status: int | None = None
    launched = False


async def _run(
    options: argparse.Namespace, where: Layout, services: str | None, prepared: Prepared, ended: _Ended
) -> None:
    interrupts = Interrupts()
    signals.let_in()
    view = choose(options.output)
    stack = Stack(where, services=services is None, agent=True, note=view.note)
    try:
        await first(_start(stack, services), interrupts.at_least(1))
        if interrupts.any:
            view.note("interrupted before the task was launched")
            ended.status = INTERRUPTED
            return
        run_dir = services or where.run
        # The operators' sockets are for the user of the services alone.
        watchable = os.access(os.path.join(run_dir, "runner-admin.sock"), os.W_OK)
        async with open_channel(where.run, "agent") as agent, open_channel(run_dir, "runner-admin") as runner:
            ended.launched = True
            run_one = _Run(prepared, where, agent, runner if watchable else None, view, interrupts)
            await first(run_one.from_launch_to_end(), stack.failed())
            ended.status = exit_status(run_one.state)
    except _Abandoned:
        ended.status = INTERRUPTED
    finally:
        # The last picture stays; what stopping has to say comes below it.
        view.close()
        await stack.stop()
        signals.let_go()


async def _start(stack: Stack, services: str | None) -> None:
    await stack.start()
    if services is None:
        return
    for name in layout.SERVICES:
        async with open_channel(services, name) as channel:
            if not await within(_SERVICES_SECS, serving(channel)):
                raise StackFailed(f"{name} does not answer at {services}/{name}.sock")


class _Run:
    """One launch: the watches on it, and what they have seen."""

    def __init__(
        self,
        prepared: Prepared,
        where: Layout,
        agent: grpc.aio.Channel,
        runner: grpc.aio.Channel | None,
        view: View,
        interrupts: Interrupts,
    ) -> None:
        self.state = 0
        self._settle_secs = _SETTLE_SECS
        self._prepared = prepared
        self._where = where
        self._agent = agent
        self._runner = runner
        self._view = view
        self._interrupts = interrupts

    async def from_launch_to_end(self) -> None:
        """Launches, shows everything, and returns when the task is over.

        Raises:
            _Abandoned: the user did not want to wait.
        """
        task_id = self._prepared.info.task_id.value
        sandbox = await self._launch()
        short = self._where.link(task_id, sandbox)
        logs = self._where.logs
        self._view.launched(Launched(task_id, self._prepared.name, short, self._prepared.ports, logs))
        processes = asyncio.create_task(self._follow_processes(task_id))
        try:
            await first(self._until_terminal(task_id), self._until_abandoned(task_id), _only_errors(processes))
            if not await within(self._settle_secs, _shielded(processes)):
                self._view.note(
                    "the runner has not said that the task is over: transitions of processes may be missing"
                )
        finally:
            processes.cancel()
        executor_id = self._prepared.info.executor.executor_id.value
        if not await executor.gone(self._agent, executor_id, _EXECUTOR_SECS):
            self._view.note("the executor has not left by itself, the agent destroys it")
        self._view.end(end_event(self.state, sandbox))

    async def _launch(self) -> str:
        """Launches the task and returns the sandbox. The id is ours: a repeated launch is known by it."""
        stub = agent_pb2_grpc.LocalAgentServiceStub(self._agent)
        request = agent_pb2.LaunchTaskRequest(task=self._prepared.info, framework=framework())
        try:
            launched: agent_pb2.LaunchTaskResponse = await answered(
                lambda: stub.LaunchTask(request, wait_for_ready=True, timeout=_LAUNCH_SECS)
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            # The agent had taken it and died before it could answer.
            known: agent_pb2.ListExecutorsResponse = await answered(
                lambda: stub.ListExecutors(agent_pb2.ListExecutorsRequest(), wait_for_ready=True, timeout=_LAUNCH_SECS)
            )
            executor_id = self._prepared.info.executor.executor_id.value
            return next(entry.sandbox for entry in known.executors if entry.executor_id == executor_id)
        return launched.sandbox

    async def _follow_processes(self, task_id: str) -> None:
        if self._runner is None:
            self._view.note("the services are another user's: only status updates are shown")
        else:
            await follow_processes(self._runner, task_id, self._view.process)

    async def _until_terminal(self, task_id: str) -> None:
        last = await follow_statuses(self._agent, task_id, self._view.status)
        self.state = last.state
        if last.source != mesos_pb2.TaskStatus.SOURCE_EXECUTOR:
            self._settle_secs = _SETTLE_WITHOUT_EXECUTOR_SECS

    async def _until_abandoned(self, task_id: str) -> None:
        await kill_when_interrupted(self._agent, task_id, self._interrupts, self._view.note)
        raise _Abandoned


async def _only_errors(task: asyncio.Task[None]) -> None:
    """Passes on the task's error; its good end is not the run's end."""
    await _shielded(task)
    await asyncio.Event().wait()


async def _shielded(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)
