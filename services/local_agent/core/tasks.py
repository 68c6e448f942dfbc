"""What the scheduler orders: launch and kill. Functions on a `Step`; no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, records, statuses
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import ENDING, Executor, ExecutorState, Framework, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.local_agent.core.step import Step


class OrderRefused(Exception):
    """The order cannot be followed; `field` names what is wrong with it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class AlreadyLaunched(OrderRefused):
    """A live task has this id."""


@dataclass(frozen=True)
class Launched:
    """Where the task went. `failure`: why it, or its executor, is over already; empty: it is not."""

    container_id: str
    sandbox: str
    launch_written_at: float
    failure: str = ""


class Killed(enum.Enum):
    """What became of a kill."""

    SENT = "KILL is on the stream"
    LOST = "the executor has no stream: the event is lost, as in Mesos"
    BEFORE_DELIVERY = "the task had not been delivered; the agent ended it"
    OVER = "no live task of that id"


def launch(
    step: Step,
    framework: Framework,
    batch: Sequence[mesos_pb2.TaskInfo],
    *,
    group: bool,
    container_id: str,
    sandbox_of: str,
) -> Launched:
    """Gives complete TaskInfos to their executor, which is launched if it does not run: all of them, or none.

    Args:
        step: The input in hand.
        framework: Who launches.
        batch: Normalised by `launch_validation`; one task, unless `group`.
        group: They go in one LAUNCH_GROUP.
        container_id: For a new run of the executor, if it comes to that.
        sandbox_of: Sandbox of that new run.

    Raises:
        AlreadyLaunched: A task's id is in use.
        OrderRefused: The ExecutorInfo differs from that of the running executor, or the framework is torn down.
    """
    info = batch[0].executor
    for index, task in enumerate(batch):
        if step.state.find_task(task.task_id.value) is not None:
            field = f"tasks[{index}].task_id" if group else "task.task_id"
            raise AlreadyLaunched(field, f"a task {task.task_id.value!r} is alive")
    known = step.state.frameworks.get(framework.framework_id)
    if framework.framework_id in step.state.torn_down or (known is not None and known.torn_down):
        raise OrderRefused("framework.id", "this framework was torn down; its id cannot be used again")
    current = step.state.executor(framework.framework_id, info.executor_id.value)
    if current is not None and current.info != info:
        field = "executor" if group else "task.executor"
        raise OrderRefused(field, "not compatible with the ExecutorInfo of the running executor of this id")
    if known is None or known.info != framework.info:
        step.record(records.FrameworkUpdated(framework.framework_id, framework.info.SerializeToString()))
    if step.state.draining:
        why = "Agent is draining"
        _drop(step, framework, batch, mesos_pb2.TaskStatus.REASON_AGENT_DRAINING, why)
        return Launched("", "", 0.0, why)
    if current is not None and current.state in ENDING:
        reason = mesos_pb2.TaskStatus.REASON_EXECUTOR_TERMINATED
        why = f"Executor {current.state.value}"
        _drop(step, framework, batch, reason, why)
        return Launched(current.container_id, current.sandbox, 0.0, why)
    executor = current or _add_executor(step, framework, info, container_id, sandbox_of)
    name = batch[0].task_id.value if group else ""
    for task in batch:
        step.record(records.TaskAdded(executor.container_id, task.task_id.value, task.SerializeToString(), name))
    written_at = 0.0
    added = [executor.tasks[task.task_id.value] for task in batch]
    if executor.state is ExecutorState.RUNNING and step.deliver(executor, added):
        written_at = step.now.monotonic
    return Launched(executor.container_id, executor.sandbox, written_at)


def kill(step: Step, task_id: str, policy: mesos_pb2.KillPolicy | None) -> Killed:
    """Passes a KILL on. The agent does not keep it: without a stream it is lost."""
    found = step.state.find_task(task_id)
    if found is None:
        return Killed.OVER
    executor, task = found
    if executor.state in ENDING or task.terminal:
        return Killed.OVER
    if not task.delivered:
        _kill_before_delivery(step, executor, task)
        return Killed.BEFORE_DELIVERY
    event = executor_pb2.Event(type=executor_pb2.Event.KILL)
    event.kill.task_id.value = task_id
    if policy is not None:
        event.kill.kill_policy.CopyFrom(policy)
    if not step.send(executor, event):
        return Killed.LOST
    step.record(records.KillDelivered(task_id, step.now.monotonic))
    return Killed.SENT


def drain(step: Step, max_grace: int | None) -> list[str]:
    """KILL to every task; returns those whose executor got it. `max_grace`: nanoseconds, for longer policies."""
    step.record(records.AgentDraining(-1 if max_grace is None else max_grace))
    alive = [task for executor in step.state.executors() for task in executor.tasks.values()]
    return [task.task_id for task in alive if kill(step, task.task_id, _drain_policy(task, max_grace)) is Killed.SENT]


def message(step: Step, executor: Executor, data: bytes) -> bool:
    """MESSAGE to an executor; False: it has not subscribed, or has no stream, and the message is lost."""
    if executor.state is not ExecutorState.RUNNING:
        return False
    event = executor_pb2.Event(type=executor_pb2.Event.MESSAGE)
    event.message.data = data
    return step.send(executor, event)


def _drain_policy(task: Task, max_grace: int | None) -> mesos_pb2.KillPolicy | None:
    if max_grace is None:
        return None
    own = task.info.kill_policy.grace_period
    policy = mesos_pb2.KillPolicy()
    policy.grace_period.nanoseconds = max_grace
    if task.info.kill_policy.HasField("grace_period") and own.nanoseconds < max_grace:
        # Mesos: DrainConfig.max_grace_period is an upper bound.
        policy.grace_period.nanoseconds = own.nanoseconds
    return policy


def _kill_before_delivery(step: Step, executor: Executor, task: Task) -> None:
    """A group is delivered whole or not at all: the others die with the one."""
    doomed, message_text = [task], "Killed before delivery to the executor"
    if task.group:
        doomed = [other for other in executor.tasks.values() if other.group == task.group and not other.delivered]
        message_text = "A task within the task group was killed before delivery to the executor"
    for one in doomed:
        if not one.terminal:
            status = statuses.made_by_agent(
                step,
                one.task_id,
                executor.executor_id,
                state=mesos_pb2.TASK_KILLED,
                reason=mesos_pb2.TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH,
                message=message_text,
            )
            step.accept(executor, one, status)


def _add_executor(
    step: Step, framework: Framework, info: mesos_pb2.ExecutorInfo, container_id: str, sandbox: str
) -> Executor:
    step.record(
        records.ExecutorAdded(
            container_id,
            framework.framework_id,
            info.executor_id.value,
            info.SerializeToString(),
            sandbox,
            step.now.monotonic,
        )
    )
    step.act(actions.LaunchContainer(container_id))
    # From the launch on, fetching and the like included (Mesos: registration deadline).
    timer = Timer(TimerKind.REGISTRATION, container_id)
    step.start_timer(timer, step.config.executor_registration_timeout)
    return step.state.containers[container_id]


def _drop(
    step: Step,
    framework: Framework,
    batch: Sequence[mesos_pb2.TaskInfo],
    reason: mesos_pb2.TaskStatus.Reason,
    why: str,
) -> None:
    for task in batch:
        status = statuses.made_by_agent(
            step,
            task.task_id.value,
            task.executor.executor_id.value,
            state=statuses.partition_aware(framework, mesos_pb2.TASK_DROPPED),
            reason=reason,
            message=why,
        )
        step.accept_unowned(status, framework.framework_id)
