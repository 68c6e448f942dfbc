"""Keeps the driver's own deadlines: asks `ends` what to do, does it, and sets the next alarm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from executor_shim.driver import ends, statuses
from executor_shim.driver.clock import boottime
from executor_shim.driver.ends import Do, Situation
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task


class _Watched:
    """What is seen of one task."""

    __slots__ = ("alarm", "empty_since", "limit", "terminated")

    def __init__(self, limit: float) -> None:
        self.alarm: asyncio.TimerHandle | None = None
        # CLOCK_BOOTTIME since when nothing of it is alive; None: something is.
        self.empty_since: float | None = None
        # Its max_completion_time, seconds; 0: none.
        self.limit = limit
        self.terminated = False


class Watchman:
    """One alarm a task."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._watched: dict[str, _Watched] = {}

    def seen_alive(self, key: str, alive: int, now: float) -> None:
        """How many processes of a task there are."""
        task = self._hub.book.tasks.get(key)
        if task is None:
            return
        watched = self._watch(task)
        if not alive:
            watched.empty_since = now if watched.empty_since is None else watched.empty_since
            return
        watched.empty_since = None
        if watched.limit and not task.completes_at:
            # Mesos: the time counts from the task's first process.
            self._hub.book.limit_time(task, now + watched.limit)

    def review_all(self) -> None:
        """After a start: everything anew."""
        for task in list(self._hub.book.tasks.values()):
            self.review(task)

    def review(self, task: Task) -> None:
        """Something about the task has changed, or its alarm has gone off."""
        if task.latch is not None or task.key not in self._hub.book.tasks:
            self._quiet(task.key)
            return
        watched = self._watch(task)
        self._quiet(task.key)
        now = boottime()
        step = ends.next_step(self._situation(task, watched, now))
        if step.do is Do.TERMINATE:
            watched.terminated = True
            self._hub.hands.terminate(task.key, self._deadline(task))
            self.review(task)
        elif step.do is Do.EXPIRE:
            # Mesos: no grace. What follows is a command like any other.
            self._hub.command_end(task, link_pb2.END_CAUSE_COMPLETION_TIME, 0.0, now, ends.OVERTIME)
        elif step.do is Do.REPORT:
            self._hub.report_fallback(task, step.state, step.message, step.reason)
        elif step.at != float("inf"):
            loop = asyncio.get_running_loop()
            watched.alarm = loop.call_later(max(step.at - now, 0.0), self.review, task)

    def forget(self, key: str) -> None:
        """The task is over for everybody."""
        self._quiet(key)
        self._watched.pop(key, None)

    def _watch(self, task: Task) -> _Watched:
        found = self._watched.get(task.key)
        if found is None:
            found = self._watched[task.key] = _Watched(statuses.completion_limit(task.info))
        return found

    def _quiet(self, key: str) -> None:
        watched = self._watched.get(key)
        if watched is not None and watched.alarm is not None:
            watched.alarm.cancel()
            watched.alarm = None

    def _deadline(self, task: Task) -> float:
        return min((end.deadline for end in task.ends if end.cause in ends.COMMANDS), default=float("inf"))

    def _situation(self, task: Task, watched: _Watched, now: float) -> Situation:
        hub = self._hub
        state = hub.peers.runner.state_of(task)
        commands = [end for end in task.ends if end.cause in ends.COMMANDS]
        return Situation(
            now=now,
            launched_at=task.launched_at,
            service_deadline=hub.options.service_deadline,
            commanded_at=min((end.requested_at for end in commands), default=None),
            command=commands[0].cause if commands else link_pb2.END_CAUSE_UNSPECIFIED,
            command_message=commands[0].message if commands else "",
            executor_ends=hub.book.shutdown is not None,
            deadline=self._deadline(task),
            terminated=watched.terminated,
            completes_at=task.completes_at or float("inf"),
            accepted=bool(task.task_state),
            cause=state.end_cause,
            phase=state.phase,
            message=state.message,
            runner_up=hub.peers.runner.link.up,
            alive=hub.hands.task(task.key).alive,
            empty_since=watched.empty_since or 0.0,
            partition_aware=bool(hub.book.identity.get("partition_aware")),
        )
