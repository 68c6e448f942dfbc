"""The stack: the three services, and the local agent where one is wanted, as processes of this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.cli.children import Child, StackFailed
from services.cli.clients import open_channel, serving
from services.cli.layout import SERVICES, Layout
from services.cli.waiting import first, within

if TYPE_CHECKING:
    from collections.abc import Callable

# Generous: two cores, five interpreters that start at once, and nothing in a cache.
_READY_SECS = 60.0


class Stack:
    """Processes in a `Layout`, kept running from `start` to `stop`."""

    def __init__(self, layout: Layout, *, services: bool, agent: bool, note: Callable[[str], None]) -> None:
        self.layout = layout
        self._note = note
        self._services = [
            Child(
                f"services.{name}",
                # Those of a stack that was killed a moment ago may still be draining.
                ["--run-dir", layout.run, "--state-dir", layout.state(name), "--wait-for-lock", "5"],
                log=layout.log(name),
                note=note,
            )
            for name in (SERVICES if services else ())
        ]
        self._agent = [_agent(layout, note)] if agent else []
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts everything and waits until all say that they serve.

        Raises:
            StackFailed: something does not start.
        """
        children = [*self._services, *self._agent]
        self._keepers = [child.start() for child in children]
        sockets = [*(f"{name}-admin" for name in SERVICES if self._services), *("agent" for _ in self._agent)]

        async def all_ready() -> None:
            # Made and awaited in one place: given up half-way, it leaves no exception that nobody asks for.
            pairs = zip(children, sockets, strict=True)
            await asyncio.gather(*(_until_ready(child, self.layout.run, socket) for child, socket in pairs))

        try:
            await first(asyncio.wait_for(all_ready(), _READY_SECS), self.failed())
        except TimeoutError:
            late = ", ".join(child.name for child in children if not child.ready)
            raise StackFailed(f"not ready after {_READY_SECS:g} s: {late}; logs are in {self.layout.logs}") from None

    async def failed(self) -> None:
        """Never returns.

        Raises:
            StackFailed: a process of the stack cannot be kept running.
        """
        if self._keepers:
            # Not gather: given up, it would take the keepers with it.
            done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_EXCEPTION)
            for keeper in done:
                keeper.result()
        await asyncio.Event().wait()  # nothing to keep, or stopped on purpose

    async def stop(self) -> None:
        """Stops the agent, which destroys its executors, then the services."""
        for agent in self._agent:
            if not await agent.stop() and agent.ready:
                await self._destroy_executors()
        await asyncio.gather(*(child.stop() for child in self._services))

    async def _destroy_executors(self) -> None:
        """Does what an agent that died or hung has not done: a new one knows its executors from the work directory."""
        self._note("the agent did not stop in order: a new one destroys its executors")
        agent = _agent(self.layout, self._note)
        agent.start()
        await within(_READY_SECS, _until_ready(agent, self.layout.run, "agent"))
        await agent.stop()


def _agent(layout: Layout, note: Callable[[str], None]) -> Child:
    argv = ["--work-dir", layout.agent, "--run-dir", layout.run, "--on-exit", "destroy"]
    return Child("services.local_agent", argv, log=layout.log("agent"), note=note)


async def _until_ready(child: Child, run_dir: str, socket: str) -> None:
    async with open_channel(run_dir, socket) as channel:
        await serving(channel)
    child.ready = True
