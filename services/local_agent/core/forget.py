"""What is over is kept for a while, by count (Mesos: completed tasks, executors and frameworks). Parts of `evolve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core.model import (
    MAX_ENDED_EXECUTORS,
    MAX_ENDED_TASKS,
    MAX_IDLE_FRAMEWORKS,
    ExecutorState,
)

if TYPE_CHECKING:
    from services.local_agent.core.model import AgentState, Executor, Framework


def task_ended(state: AgentState, task_id: str) -> None:
    """No task of this id is alive any more; what the scheduler has of it can be asked for, for a while."""
    state.ended_tasks.pop(task_id, None)
    state.ended_tasks[task_id] = None
    while len(state.ended_tasks) > MAX_ENDED_TASKS:
        oldest = next(iter(state.ended_tasks))
        del state.ended_tasks[oldest]
        del state.inboxes[oldest]


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
        while len(state.torn_down) > MAX_IDLE_FRAMEWORKS:
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
