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
# Mesos' built-in executors: an acknowledgement that has not come by then never comes.
ACK_FAILSAFE = 60.0
# Kept of SHUTDOWN's grace period, so that the exit is ours and not the agent's SIGKILL.
EXIT_MARGIN = 0.5


class ExitPlan:
    """Forgets tasks that are over, and ends the executor when none is left."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._alarm: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None

    def review(self) -> None:
        """Something has ended, or the alarm has gone off."""
        hub = self._hub
        now = boottime()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if hub.done.is_set():
            return
        for task in [task for task in hub.book.tasks.values() if self._is_over(task) and self._is_known(task)]:
            hub.forget(task)
        if self._is_hopeless():
            self._end(1, "everything is dead, and the agent is gone")
            return
        alarms = [at for at in (self._shutdown_at(), self._failsafe_at()) if at is not None]
        if alarms and now >= min(alarms):
            self._end(1, "acknowledgements are missing")
            return
        open_tasks = [task for task in hub.book.tasks.values() if not self._is_over(task)]
        if open_tasks or not (hub.book.launches or hub.book.shutdown):
            self._idle_since = None
        else:
            self._idle_since = self._idle_since or now
            linger = 0.0 if hub.book.shutdown else hub.options.linger
            if now >= self._idle_since + linger:
                self._end(0, "all tasks are over")
                return
            alarms.append(self._idle_since + linger)
        if alarms:
            self._alarm = asyncio.get_running_loop().call_later(max(min(alarms) - now, 0.0), self.review)

    def fail(self, why: str) -> None:
        """The container has to be destroyed: statuses would lie."""
        self._end(1, why)

    def _is_over(self, task: Task) -> bool:
        return task.latch is not None and task.latch.acknowledged and not self._hub.hands.task(task.key).alive

    def _is_known(self, task: Task) -> bool:
        """All services can be told; one that is down would take a task that Hello does not name for lost."""
        del task
        return all(link.up for link in self._hub.peers.links)

    def _is_hopeless(self) -> bool:
        """No process is left, and nobody will ever take a status."""
        hub = self._hub
        gone = hub.book.shutdown is not None and hub.book.shutdown[0] == link_pb2.END_CAUSE_AGENT_GONE
        return gone and not any(hub.hands.task(task.key).alive for task in hub.book.tasks.values())

    def _shutdown_at(self) -> float | None:
        shutdown = self._hub.book.shutdown
        return None if shutdown is None else shutdown[2] - EXIT_MARGIN

    def _failsafe_at(self) -> float | None:
        """A terminal status that is not acknowledged though the stream stands: it never will be."""
        if not self._hub.subscription.subscribed:
            return None
        waiting = [
            task.latch.at for task in self._hub.book.tasks.values() if task.latch and not task.latch.acknowledged
        ]
        return min(waiting) + ACK_FAILSAFE if waiting else None

    def _end(self, code: int, why: str) -> None:
        _LOG.info("the executor ends with %d: %s", code, why)
        self._hub.subscription.close()
        self._hub.hands.end(code)
        self._hub.done.set()
