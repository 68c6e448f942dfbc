"""Tasks that came in one LAUNCH_GROUP: all of them are started, or none (Mesos: group obligations).

The runner says of each member whether it can be run at all. Until it has spoken of every one, its orders to start are
kept back and nobody else hears of the members; a refused member takes the others with it. After that a member that does
not finish takes its siblings with it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from executor_shim.driver import ends
from executor_shim.driver.clock import boottime
from executor_shim.driver.state.entries import GROUP_OPEN, GROUP_REFUSED, GROUP_STARTED, Task
from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor_shim.driver.hub import Hub

_LOG = logging.getLogger(__name__)
# Ends that are nobody else's business: success, and that no runner has come, which each member finds out by itself.
_LEAVE_SIBLINGS = frozenset({mesos_pb2.TASK_FINISHED, mesos_pb2.TASK_DROPPED, mesos_pb2.TASK_LOST})


class Member(NamedTuple):
    """What a judgement goes by."""

    task_id: str
    # The runner has spoken of it; it cannot be run, and why.
    spoken: bool
    refused: bool
    message: str


class Judgement(NamedTuple):
    """On a group: GROUP_OPEN while it has to wait; the message for those that a refusal takes along."""

    verdict: int
    message: str = ""


def judge(members: Iterable[Member]) -> Judgement:
    """Whether a group may start. Pure."""
    waits = False
    for member in members:
        if member.refused:
            return Judgement(GROUP_REFUSED, f"Task group rejected: task '{member.task_id}': {member.message}")
        waits = waits or not member.spoken
    return Judgement(GROUP_OPEN if waits else GROUP_STARTED)


class Groups:
    """Holds the members of undecided groups back, and decides."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Orders to start, by task: process and run -> what does it.
        self._held: dict[str, dict[tuple[str, int], Callable[[], None]]] = {}

    def may_start(self, task: Task) -> bool:
        """The task came alone, or its group has been decided to start."""
        return self._hub.book.groups.get(task.group, GROUP_STARTED) == GROUP_STARTED

    def keeps_back(self, task: Task, state: link_pb2.TaskState) -> bool:
        """Nobody hears of this state: the group is open, or refused, and the runner does not know yet."""
        decided = self._hub.book.groups.get(task.group, GROUP_STARTED)
        return decided == GROUP_OPEN or (decided == GROUP_REFUSED and not state.end_cause)

    def hold(self, task: Task, run: tuple[str, int], start: Callable[[], None]) -> None:
        """Keeps an order to start for when the group is decided."""
        self._held.setdefault(task.key, {})[run] = start
        if task.ends:
            self.drop(task)

    def drop(self, task: Task) -> None:
        """The task is to end: what was not started is not started any more, and the runner waits for no word of it."""
        runs = [
            link_pb2.Run(
                process=process, run=run, state=link_pb2.RUN_STATE_NOT_STARTED, error="the task is being ended"
            )
            for process, run in self._held.pop(task.key, {})
        ]
        if runs:
            self._hub.peers.hands(task, link_pb2.HandsState(runs=runs))

    def review_all(self) -> None:
        """After a start: everything anew."""
        for number in list(self._hub.book.groups):
            self._review(number)

    def review(self, task: Task) -> None:
        """Something about the task has changed."""
        if task.group:
            self._review(task.group)

    def _review(self, number: int) -> None:
        book = self._hub.book
        members = [task for task in book.tasks.values() if task.group == number]
        if book.groups[number] == GROUP_OPEN:
            judgement = judge(self._member(task) for task in members)
            if judgement.verdict != GROUP_OPEN:
                book.decide_group(number, judgement.verdict)
                self._tell(members)
        # Again each time: a driver may have died between the decision and what follows from it.
        if book.groups[number] == GROUP_REFUSED:
            self._refuse(members)
        self._end_siblings(members)

    def _member(self, task: Task) -> Member:
        state = self._hub.peers.runner.state_of(task)
        refused = state.end_cause == link_pb2.END_CAUSE_INVALID
        # One that has its terminal status without the runner is waited for no longer.
        return Member(task.task_id, bool(task.task_state) or task.latch is not None, refused, state.message)

    def _tell(self, members: list[Task]) -> None:
        """Health and reporter hear of the members; what was kept back is started when the group may start."""
        for task in members:
            state = self._hub.peers.runner.state_of(task)
            told = task.task_state and not self.keeps_back(task, state)
            self._hub.tell_task_state(task, state if told else None)
            if self.may_start(task):
                for start in self._held.pop(task.key, {}).values():
                    start()

    def _refuse(self, members: list[Task]) -> None:
        """Members that could be run are refused with the one that cannot."""
        message = judge(self._member(task) for task in members).message or "Task group rejected"
        for task in members:
            asked = any(end.cause == link_pb2.END_CAUSE_INVALID for end in task.ends)
            if task.latch is None and not asked and not self._member(task).refused:
                _LOG.warning("task %s: refused with its group", task.key)
                self._hub.request_end(task, link_pb2.END_CAUSE_INVALID, 0.0, 0.0, message)

    def _end_siblings(self, members: list[Task]) -> None:
        """Mesos' default executor: a member that fails or is killed ends the group."""
        failed = [task for task in members if task.latch and task.latch.state not in _LEAVE_SIBLINGS]
        if not failed:
            return
        state = mesos_pb2.TaskState.Name(failed[0].latch.state) if failed[0].latch else ""
        message = f"Killed with its group: task '{failed[0].task_id}' is {state}"
        for task in members:
            asked = any(end.cause in ends.COMMANDS or end.cause == link_pb2.END_CAUSE_INVALID for end in task.ends)
            refused = self._hub.peers.runner.state_of(task).end_cause == link_pb2.END_CAUSE_INVALID
            if task.latch is None and not asked and not refused:
                grace = self._hub.peers.total_grace(task)
                self._hub.command_end(task, link_pb2.END_CAUSE_KILL, None, boottime() + grace, message)
