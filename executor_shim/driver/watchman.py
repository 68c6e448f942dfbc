"""Keeps the driver's own deadlines: asks `ends` what to do, does it, and sets the next alarm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from executor_shim.driver import ends
from executor_shim.driver.clock import boottime
from executor_shim.driver.ends import Do, Situation

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task


class Watchman:
    """One alarm a task."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._empty_since: dict[str, float] = {}
        self._terminated: set[str] = set()

    def seen_alive(self, key: str, alive: int, now: float) -> None:
        """How many processes of a task there are."""
        if alive:
            self._empty_since.pop(key, None)
        else:
            self._empty_since.setdefault(key, now)

    def review_all(self) -> None:
        """After a start: everything anew."""
        for task in list(self._hub.book.tasks.values()):
            self.review(task)

    def review(self, task: Task) -> None:
        """Something about the task has changed, or its alarm has gone off."""
        alarm = self._alarms.pop(task.key, None)
        if alarm is not None:
            alarm.cancel()
        if task.latch is not None or task.key not in self._hub.book.tasks:
            return
        now = boottime()
        step = ends.next_step(self._situation(task, now))
        if step.do is Do.TERMINATE:
            self._terminated.add(task.key)
            self._hub.hands.terminate(task.key, self._deadline(task))
            self.review(task)
        elif step.do is Do.REPORT:
            self._hub.report_fallback(task, step.state, step.message)
        elif step.at != float("inf"):
            loop = asyncio.get_running_loop()
            self._alarms[task.key] = loop.call_later(max(step.at - now, 0.0), self.review, task)

    def _deadline(self, task: Task) -> float:
        return min((end.deadline for end in task.ends if end.cause in ends.COMMANDS), default=float("inf"))

    def _situation(self, task: Task, now: float) -> Situation:
        hub = self._hub
        state = hub.peers.runner.state_of(task)
        commands = [end.requested_at for end in task.ends if end.cause in ends.COMMANDS]
        return Situation(
            now=now,
            launched_at=task.launched_at,
            service_deadline=hub.options.service_deadline,
            commanded_at=min(commands, default=None),
            executor_ends=hub.book.shutdown is not None,
            deadline=self._deadline(task),
            terminated=task.key in self._terminated,
            accepted=bool(task.task_state),
            answered=bool(state.end_cause),
            phase=state.phase,
            runner_up=hub.peers.runner.link.up,
            alive=hub.hands.task(task.key).alive,
            empty_since=self._empty_since.get(task.key, 0.0),
            partition_aware=bool(hub.book.identity.get("partition_aware")),
        )
