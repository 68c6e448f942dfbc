"""What is over is kept for a while, by count (Mesos: completed tasks, executors and frameworks). Parts of `evolve`."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from services.local_agent.core.model import (
    MAX_ENDED_BYTES,
    MAX_ENDED_EXECUTORS,
    MAX_ENDED_TASKS,
    MAX_IDLE_FRAMEWORKS,
    MAX_RECEIVED,
    MAX_RECEIVED_BYTES,
    MAX_TORN_DOWN,
    ExecutorState,
)

if TYPE_CHECKING:
    from services.local_agent.core.model import AgentState, Executor, Framework, Inbox


def task_ended(state: AgentState, task_id: str) -> None:
    """No task of this id is alive any more; what the scheduler has of it can be asked for, for a while."""
    state.ended_tasks.pop(task_id, None)
    state.ended_tasks[task_id] = None
    size = sum(state.inboxes[ended].size for ended in state.ended_tasks)
    while len(state.ended_tasks) > MAX_ENDED_TASKS or (size > MAX_ENDED_BYTES and len(state.ended_tasks) > 1):
        oldest = next(iter(state.ended_tasks))
        del state.ended_tasks[oldest]
        size -= state.inboxes.pop(oldest).size


def oldest_received(inbox: Inbox) -> None:
    """What the scheduler got first is forgotten where there is too much of it; never the newest."""
    while len(inbox.received) > MAX_RECEIVED or (inbox.size > MAX_RECEIVED_BYTES and len(inbox.received) > 1):
        inbox.size -= inbox.received.popleft().size
        inbox.forgotten += 1


def tasks_of(state: AgentState, executor: Executor) -> None:
    """All tasks of an executor that is gone are over, and the executor with them."""
    for task_id in list(executor.tasks):
        del executor.tasks[task_id]
        task_ended(state, task_id)
    executor_if_over(state, executor)


def executor_if_over(state: AgentState, executor: Executor) -> None:
    """Once the process is gone and the scheduler knows the end of every task, nobody finds the executor any more."""
    if executor.state is not ExecutorState.TERMINATED or executor.tasks:
        return
    framework = state.frameworks[executor.framework_id]
    del state.containers[executor.container_id]
    del framework.executors[executor.executor_id]
    state.draining = state.draining and bool(state.containers)
    state.ended.append(executor)
    of_framework = [ended for ended in state.ended if ended.framework_id == executor.framework_id]
    if len(of_framework) > MAX_ENDED_EXECUTORS:
        state.ended.remove(of_framework[0])
    framework_if_over(state, framework)


def framework_if_over(state: AgentState, framework: Framework) -> None:
    """A framework without executors is idle; one that was torn down is gone, and its id is used up."""
    if framework.executors or framework.framework_id not in state.frameworks:
        return
    del state.frameworks[framework.framework_id]
    if framework.torn_down:
        state.torn_down[framework.framework_id] = None
        # The last ones' executors can still be asked for.
        for framework_id in islice(reversed(state.torn_down), MAX_IDLE_FRAMEWORKS, MAX_IDLE_FRAMEWORKS + 1):
            state.ended = [executor for executor in state.ended if executor.framework_id != framework_id]
        while len(state.torn_down) > MAX_TORN_DOWN:
            del state.torn_down[next(iter(state.torn_down))]
        return
    # Youngest last.
    state.frameworks[framework.framework_id] = framework
    oldest_frameworks(state)


def oldest_frameworks(state: AgentState) -> None:
    """Forgets those that have been idle for longest."""
    idle = [framework.framework_id for framework in state.frameworks.values() if not framework.executors]
    for framework_id in idle[: max(0, len(idle) - MAX_IDLE_FRAMEWORKS)]:
        del state.frameworks[framework_id]
        state.ended = [executor for executor in state.ended if executor.framework_id != framework_id]


def unowned_of(state: AgentState, framework_id: str) -> None:
    """What nobody owns of a framework that is over reaches no scheduler any more."""
    for task_id, frameworks in list(state.unowned_frameworks.items()):
        kept = [
            (whose, status)
            for whose, status in zip(frameworks, state.unowned[task_id], strict=True)
            if whose != framework_id
        ]
        state.unowned_frameworks[task_id] = deque(whose for whose, _ in kept)
        state.unowned[task_id] = deque(status for _, status in kept)
        unowned_if_over(state, task_id)


def unowned_if_over(state: AgentState, task_id: str) -> None:
    """Empty queues are none."""
    if not state.unowned[task_id]:
        del state.unowned[task_id], state.unowned_frameworks[task_id]
