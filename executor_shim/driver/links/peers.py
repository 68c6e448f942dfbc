"""The three services as the hub sees them: whom to tell what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from executor_shim.driver.links.health import HealthPeer
from executor_shim.driver.links.reporter import ReporterPeer
from executor_shim.driver.links.runner import RunnerPeer

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import EndRequest, Task
    from trivet.link.v1 import link_pb2

FAREWELL_SECS = 0.3
"""Seconds that a service has to read the driver's last words: the coordinator gives the driver 1 s to leave."""


class Peers:
    """Runner, health and reporter. Each hears of what concerns it."""

    def __init__(self, hub: Hub) -> None:
        self.runner = RunnerPeer(hub)
        self.health = HealthPeer(hub)
        self.reporter = ReporterPeer(hub)
        self._all = (self.runner, self.health, self.reporter)
        self.links = [peer.link for peer in self._all]

    def identified(self) -> None:
        """SUBSCRIBED has told who we are: the links may say Hello."""
        for peer in self._all:
            peer.identified.set()

    async def farewell(self, runs: list[asyncio.Task[None]]) -> None:
        """Lets the services read what was said last: which statuses were acknowledged, which tasks are over.

        Args:
            runs: What runs the links, in their order.
        """
        talking = [run for run, link in zip(runs, self.links, strict=True) if link.up]
        for link in self.links:
            link.finish()
        if talking:
            await asyncio.wait(talking, timeout=FAREWELL_SECS)

    def launch(self, task: Task) -> None:
        """A new task, for the runner: the others hear of it once it is accepted, so that they do not hold it up."""
        self.runner.launch(task)

    def accepted(self, task: Task) -> None:
        """The runner has spoken of the task for the first time."""
        self.health.launch(task)
        self.reporter.launch(task)

    def forget(self, task: Task) -> None:
        """A task is over for everybody."""
        for peer in self._all:
            peer.forget(task)

    def hands(self, task: Task, state: link_pb2.HandsState) -> None:
        """Runs have changed."""
        self.runner.hands(task, state)

    def end(self, task: Task, end: EndRequest) -> None:
        """Somebody wants the task to end."""
        self.runner.end(task, end)

    def task_state(self, state: link_pb2.TaskState) -> None:
        """The runner has spoken."""
        self.health.task_state(state)
        self.reporter.task_state(state)

    def verdict(self, verdict: link_pb2.Verdict) -> None:
        """Health has spoken."""
        self.reporter.verdict(verdict)

    def latched(self, task: Task) -> None:
        """The task has its terminal status."""
        self.runner.latched(task)
        self.reporter.latched(task)

    def acknowledged(self, task: Task, uuid: bytes) -> None:
        """The agent has a status."""
        self.reporter.acknowledged(task, uuid)

    def total_grace(self, task: Task) -> float:
        """Seconds that a KILL without a policy leaves the task, final processes included."""
        return self.runner.total_grace(task)
