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
# An executor that never had a task waits at least so long for it, from SUBSCRIBED on: the agent makes room for the task
# first (Mesos: the registration timeout, in which an agent expects an executor to be ready, is as long).
FIRST_TASK_SECS = 60.0
# The last event of an executor that is about to go may be long, and its agent may have died in the middle of it.
LAST_EVENT_SECS = 10.0


def linger_secs(
    linger: float, *, had_tasks: bool, shutdown: bool, subscribed: bool, reading: float = 0.0
) -> float | None:
    """Seconds that an executor without living tasks stays; None: for ever. Pure.

    Args:
        linger: `--linger`; 0: it goes with its last task, and waits for its first one as long as the agent lets it.
        had_tasks: A task has come at some time.
        shutdown: Everything has to end.
        subscribed: The event stream stands.
        reading: Seconds for whoever still reads a log.
    """
    if shutdown:
        return 0.0
    if had_tasks:
        return max(linger, reading)
    # Without a stream no task can come: then the agent's return decides, or that it is gone for good.
    return max(linger, FIRST_TASK_SECS) if linger and subscribed else None


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
        linger = self._linger()
        if open_tasks or linger is None:
            self._idle_since = None
        else:
            self._idle_since = self._idle_since or now
            if now >= self._idle_since + linger:
                if self._last_moment(self._idle_since + linger, now):
                    return
                missing = not self._given_up.isdisjoint(hub.book.tasks)
                self._end(int(missing), "acknowledgements are missing" if missing else "all tasks are over")
                return
            alarms.append(self._idle_since + linger)
        if alarms:
            self._alarm = asyncio.get_running_loop().call_later(max(min(alarms) - now, 0.0), self.review)

    def _linger(self) -> float | None:
        """Seconds that an executor without living tasks stays; None: for ever."""
        hub = self._hub
        reading = READING_SECS if hub.peers.runner.inquiries.reading else 0.0
        return linger_secs(
            hub.options.linger,
            had_tasks=hub.book.had_tasks,
            shutdown=hub.book.shutdown is not None,
            subscribed=hub.subscription.subscribed_at is not None,
            reading=reading,
        )

    def _last_moment(self, due: float, now: float) -> bool:
        """Takes what has come in the last moment; whether the executor has to stay for it."""
        if self._hub.book.shutdown is not None:
            return False
        partial = self._hub.subscription.read_waiting()
        if self._hub.done.is_set():
            return True
        if not all(map(self._is_over, self._hub.book.tasks.values())):
            self.review()
            return True
        if partial and now < due + LAST_EVENT_SECS:
            self._alarm = asyncio.get_running_loop().call_later(due + LAST_EVENT_SECS - now, self.review)
            return True
        return False

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
