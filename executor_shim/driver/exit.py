"""When the executor may go, and with which exit status (Mesos: when may the executor exit)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from executor_shim.driver.clock import boottime
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub
    from executor_shim.driver.state.entries import Task

_LOG = logging.getLogger(__name__)
# Kept of SHUTDOWN's grace period, so that the exit is ours and not the agent's SIGKILL.
EXIT_MARGIN = 0.5
# Who reads a log when the last task ends gets the rest of it, as far as that can be read in this time.
READING_SECS = 5.0


class ExitPlan:
    """Forgets tasks that are over, and ends the executor when none is left."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._alarm: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        # Tasks whose terminal status nobody will ever acknowledge.
        self._given_up: set[str] = set()

    def give_up(self, key: str) -> None:
        """The agent will never acknowledge the task's terminal status: it holds the executor no longer."""
        self._given_up.add(key)
        self.review()

    def review(self) -> None:
        """Something has ended, or the alarm has gone off."""
        hub = self._hub
        now = boottime()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if hub.done.is_set():
            return
        for task in [task for task in hub.book.tasks.values() if self._may_be_forgotten(task)]:
            hub.forget(task)
        if self._is_hopeless():
            self._end(1, "everything is dead, and the agent is gone")
            return
        alarms = [at for at in (self._shutdown_at(),) if at is not None]
        if alarms and now >= min(alarms):
            self._end(1, "acknowledgements are missing")
            return
        for task in hub.book.tasks.values():
            failsafe_at = self._failsafe_at(task)
            if failsafe_at is not None and now >= failsafe_at:
                _LOG.error("task %s: its terminal status is never acknowledged", task.key)
                self._given_up.add(task.key)
            elif failsafe_at is not None:
                alarms.append(failsafe_at)
        open_tasks = [task for task in hub.book.tasks.values() if not self._is_over(task)]
        if open_tasks or not (hub.book.launches or hub.book.shutdown):
            self._idle_since = None
        else:
            self._idle_since = self._idle_since or now
            reading = READING_SECS if hub.peers.runner.inquiries.reading else 0.0
            linger = 0.0 if hub.book.shutdown else max(hub.options.linger, reading)
            if now >= self._idle_since + linger:
                missing = not self._given_up.isdisjoint(hub.book.tasks)
                self._end(int(missing), "acknowledgements are missing" if missing else "all tasks are over")
                return
            alarms.append(self._idle_since + linger)
        if alarms:
            self._alarm = asyncio.get_running_loop().call_later(max(min(alarms) - now, 0.0), self.review)

    def fail(self, why: str) -> None:
        """The container has to be destroyed: statuses would lie."""
        self._end(1, why)

    def _is_over(self, task: Task) -> bool:
        settled = task.latch is not None and (task.latch.acknowledged or task.key in self._given_up)
        return settled and not self._hub.hands.task(task.key).alive

    def _may_be_forgotten(self, task: Task) -> bool:
        # All services can be told; one that is down would take a task that Hello does not name for lost.
        told = all(link.up for link in self._hub.peers.links)
        return told and task.latch is not None and task.latch.acknowledged and self._is_over(task)

    def _is_hopeless(self) -> bool:
        """No process is left, and nobody will ever take a status."""
        hub = self._hub
        gone = hub.book.shutdown is not None and hub.book.shutdown[0] == link_pb2.END_CAUSE_AGENT_GONE
        return gone and not any(hub.hands.task(task.key).alive for task in hub.book.tasks.values())

    def _shutdown_at(self) -> float | None:
        shutdown = self._hub.book.shutdown
        return None if shutdown is None else shutdown[2] - EXIT_MARGIN

    def _failsafe_at(self, task: Task) -> float | None:
        """When a task's terminal status counts as never acknowledged; time runs only while the stream stands."""
        subscribed_at = self._hub.subscription.subscribed_at
        if subscribed_at is None or task.latch is None or task.latch.acknowledged or task.key in self._given_up:
            return None
        return max(task.latch.at, subscribed_at) + self._hub.options.ack_timeout

    def _end(self, code: int, why: str) -> None:
        _LOG.info("the executor ends with %d: %s", code, why)
        self._hub.subscription.close()
        self._hub.hands.end(code)
        self._hub.done.set()
