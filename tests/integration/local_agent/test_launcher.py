"""The posix launcher in this process, with real children: whose process it is, and ends that are under way."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from services.local_agent import settings as command_line
from services.local_agent.agent import LocalAgent
from services.local_agent.containers.launcher import Container
from services.local_agent.containers.posix import PosixLauncher
from services.local_agent.containers.process_tree import read_process, read_table
from services.local_agent.hands import now
from services.local_agent.store import Store
from tests.integration.local_agent.launcher_doubles import EndsAtOnce, GatedLauncher, Told, launch, turns
from tests.integration.local_agent.rig import TIMEOUT, alive, task_info, wait_gone
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


# Says its child's number and its own; ends when it can read a line.
PARENT = "sleep 1000 & echo $! $$ >&3; read line <&4"


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A failed test must not leave its children to the others."""
    before = _children()
    yield
    left = _children() - before
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left, "children are left"


def _children() -> set[int]:
    return {row.pid for row in read_table() if row.parent == os.getpid()}


def test_process_with_the_number_of_a_container_is_not_taken_for_it(tmp_path: Path) -> None:
    async def play() -> None:
        first, second = PosixLauncher(Told()), PosixLauncher(Told())
        forked = await launch(first, tmp_path, "sleep", "1000")
        before = set(os.listdir("/proc/self/fd"))
        for ticks in (forked.start_ticks - 1, forked.start_ticks + 1, 0):
            assert not second.adopt("c", forked.pid, ticks)
        assert not await second.destroy("c")
        assert alive(forked.pid)
        assert set(os.listdir("/proc/self/fd")) == before
        assert second.adopt("c", forked.pid, forked.start_ticks)
        assert await second.destroy("c")
        await asyncio.gather(first.wait_idle(), second.wait_idle())
        assert not alive(forked.pid)

    asyncio.run(play())


def test_process_that_got_the_number_of_an_executor_that_is_gone_is_spared() -> None:
    # Numbers do not come again on demand: a living process plays the one that has got it.
    read, write = os.pipe()
    end, other = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, write, 3), (os.POSIX_SPAWN_DUP2, end, 4)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", PARENT], {"PATH": "/usr/bin:/bin"}, file_actions=actions, setsid=True)
    child, own = map(int, os.read(read, 100).split())
    try:
        assert own == pid
        launcher = PosixLauncher.__new__(PosixLauncher)
        killed = launcher._kill(Container("c", pid, -1), first_is_gone=True)
        assert killed == {child}
        wait_gone(child)
        assert alive(pid)
        assert launcher._kill(Container("c", pid, -1), first_is_gone=False) == {pid}
    finally:
        for number in (child, pid):
            if alive(number):
                os.kill(number, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        for descriptor in (read, write, end, other):
            os.close(descriptor)


def test_close_while_a_container_ends_closes_no_foreign_descriptor(tmp_path: Path) -> None:
    async def play() -> tuple[Told, int]:
        told = Told()
        launcher = GatedLauncher(told, "end")
        forked = await launch(launcher, tmp_path, "true")
        pidfd = launcher._containers["c"].pidfd
        ending = None
        try:
            await asyncio.wait_for(launcher.entered.wait(), TIMEOUT)
            [ending] = launcher._ending
            launcher.close()
            # The number is somebody else's by now.
            stranger = os.open("/dev/null", os.O_RDONLY)
            if stranger != pidfd:
                os.dup2(stranger, pidfd)
                os.close(stranger)
        finally:
            launcher.gate.set()
        await asyncio.wait([ending])
        os.fstat(pidfd)
        os.close(pidfd)
        return told, forked.pid

    told, pid = asyncio.run(play())
    assert os.waitpid(pid, os.WNOHANG) == (pid, 0)
    assert told.failures == []


def test_settling_waits_for_ends_that_were_noticed(tmp_path: Path) -> None:
    async def play() -> None:
        told = Told()
        launcher = GatedLauncher(told, "end")
        await launch(launcher, tmp_path, "sh", "-c", "exit 7")
        await asyncio.wait_for(launcher.entered.wait(), TIMEOUT)
        settling = asyncio.create_task(launcher.settle())
        await turns()
        assert (settling.done(), told.exits) == (False, [])
        launcher.gate.set()
        await asyncio.wait_for(settling, TIMEOUT)
        assert told.exits == [("c", 7, None)]
        launcher.close()

    asyncio.run(play())


def test_process_that_is_being_started_is_no_unknown_child(tmp_path: Path) -> None:
    async def play() -> None:
        told = Told()
        launcher = EndsAtOnce(told)
        await launch(launcher, tmp_path, "sh", "-c", "exit 7")
        await asyncio.wait_for(told.exited.wait(), TIMEOUT)
        assert told.exits == [("c", 7, None)]
        launcher.close()

    asyncio.run(play())


def test_unknown_children_are_reaped_and_those_that_come_of_them(tmp_path: Path) -> None:
    def sleeper() -> int:
        return os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})

    async def gone(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        await turns()
        assert read_process(pid) is None

    async def play() -> None:
        before = set(os.listdir("/proc/self/fd"))
        launcher = PosixLauncher(Told())
        own = await launch(launcher, tmp_path, "sleep", "1000")
        first = sleeper()
        launcher.reap_unknown()
        # As a first program makes a sibling of itself.
        second, third = sleeper(), sleeper()
        await gone(first)
        await gone(second)
        assert alive(own.pid)
        await launcher.destroy("c")
        await launcher.wait_idle()
        launcher.close()
        assert set(os.listdir("/proc/self/fd")) == before
        os.kill(third, signal.SIGKILL)
        wait_gone(third)
        await turns()
        assert os.waitid(os.P_PID, third, os.WEXITED | os.WNOHANG) is not None, "nobody watches it any more"  # noqa: ASYNC222

    asyncio.run(play())


@asynccontextmanager
async def _agent(directory: Path, where: str) -> AsyncIterator[tuple[LocalAgent, GatedLauncher]]:
    """An agent in this process whose launcher has a gate. Whoever ends it leaves the executors alone."""
    work = str(directory / "w")
    log = Store(work)
    agent = LocalAgent(command_line.parse(["--work-dir", work, "--no-switch-user"]), log, log.load())
    agent._hands.launcher = launcher = GatedLauncher(agent._hands, where)
    await agent.start()
    await asyncio.wait_for(agent.ready.wait(), TIMEOUT)
    try:
        yield agent, launcher
    finally:
        launcher.gate.set()
        await asyncio.wait_for(agent.stop(destroy=False), TIMEOUT)
        log.close()


def _processes(directory: Path) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/cwd").startswith(str(directory)) and alive(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found


def test_destroy_waits_for_a_launch_that_is_under_way(tmp_path: Path) -> None:
    async def play() -> None:
        async with _agent(tmp_path, "start") as (agent, launcher):
            request = agent_pb2.LaunchTaskRequest(task=task_info("t"))
            launching = asyncio.create_task(agent.scheduler.launch(request))
            await asyncio.wait_for(launcher.entered.wait(), TIMEOUT)
            [container] = agent.state.containers
            agent.perform(agent._machine.destroy_all(now()))
            await turns()
            assert container in agent.state.containers, "its end was told before it was there"
            launcher.gate.set()
            await asyncio.wait([launching])
            await asyncio.wait_for(agent._hands.settle(), TIMEOUT)
            await asyncio.wait_for(launcher.wait_idle(), TIMEOUT)
            assert container not in agent.state.containers
            [executor] = agent.state.ended
            assert (executor.container_id, executor.exit_signal) == (container, signal.SIGKILL)
            assert _processes(tmp_path) == []
            assert not agent.failed.done()

    try:
        asyncio.run(play())
    finally:
        for pid in _processes(tmp_path):
            os.kill(pid, signal.SIGKILL)


def test_an_end_that_was_noticed_before_the_agents_is_recorded(tmp_path: Path) -> None:
    async def play() -> None:
        async with _agent(tmp_path, "end") as (agent, launcher):
            await agent.scheduler.launch(agent_pb2.LaunchTaskRequest(task=task_info("t", "exit 3")))
            await asyncio.wait_for(launcher.entered.wait(), TIMEOUT)
            stopping = asyncio.create_task(agent.stop(destroy=False))
            await turns()
            assert not stopping.done()
            launcher.gate.set()
            await asyncio.wait_for(stopping, TIMEOUT)
            assert not agent.failed.done()

    asyncio.run(play())
    again = Store(str(tmp_path / "w"))
    [executor] = again.load().ended
    again.close()
    assert executor.exit_code == 3
