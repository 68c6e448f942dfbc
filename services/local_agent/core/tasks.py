"""What the scheduler orders: launch and kill. Functions on a `Step`; no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, durations, records, statuses
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import ENDING, Executor, ExecutorState, Framework

if TYPE_CHECKING:
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
    """Where the task went."""

    container_id: str
    sandbox: str
    launch_written_at: float


class Killed(enum.Enum):
    """What became of a kill."""

    SENT = "KILL is on the stream"
    LOST = "the executor has no stream: the event is lost, as in Mesos"
    BEFORE_DELIVERY = "the task had not been delivered; the agent ended it"
    OVER = "no live task of that id"


def launch(
    step: Step, framework: Framework, task: mesos_pb2.TaskInfo, *, container_id: str, sandbox_of: str
) -> Launched:
    """Gives a complete TaskInfo to its executor, which is launched if it does not run.

    Args:
        step: The input in hand.
        framework: Who launches.
        task: Normalised by `launch_validation`.
        container_id: For a new run of the executor, if it comes to that.
        sandbox_of: Sandbox of that new run.

    Raises:
        AlreadyLaunched: The task's id is in use.
        OrderRefused: The ExecutorInfo differs from that of the running executor.
    """
    task_id = task.task_id.value
    if step.state.find_task(task_id) is not None:
        raise AlreadyLaunched("task.task_id", f"a task {task_id!r} is alive")
    current = step.state.executor(framework.framework_id, task.executor.executor_id.value)
    if current is not None and current.info != task.executor:
        raise OrderRefused("task.executor", "not compatible with the ExecutorInfo of the running executor of this id")
    if framework.framework_id not in step.state.frameworks or (
        step.state.frameworks[framework.framework_id].info != framework.info
    ):
        step.record(records.FrameworkUpdated(framework.framework_id, framework.info.SerializeToString()))
    if current is not None and current.state in ENDING:
        _refuse_at_ending_executor(step, current, task_id)
        return Launched(current.container_id, current.sandbox, 0.0)
    executor = current or _add_executor(step, framework, task.executor, container_id, sandbox_of)
    step.record(records.TaskAdded(executor.container_id, task_id, task.SerializeToString()))
    written_at = 0.0
    if executor.state is ExecutorState.RUNNING and step.deliver(executor, executor.tasks[task_id]):
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
        status = statuses.made_by_agent(
            step,
            task_id,
            executor.executor_id,
            state=mesos_pb2.TASK_KILLED,
            reason=mesos_pb2.TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH,
            message="Killed before delivery to the executor",
        )
        step.accept(executor, task, status)
        return Killed.BEFORE_DELIVERY
    event = executor_pb2.Event(type=executor_pb2.Event.KILL)
    event.kill.task_id.value = task_id
    if policy is not None:
        event.kill.kill_policy.CopyFrom(policy)
    if not step.send(executor, event):
        return Killed.LOST
    step.record(records.KillDelivered(task_id, step.now.monotonic))
    return Killed.SENT


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
    limit = durations.seconds(step.config.executor_registration_timeout)
    step.act(actions.StartTimer(Timer(TimerKind.REGISTRATION, container_id), limit))
    return step.state.containers[container_id]


def _refuse_at_ending_executor(step: Step, executor: Executor, task_id: str) -> None:
    framework = step.state.frameworks[executor.framework_id]
    status = statuses.made_by_agent(
        step,
        task_id,
        executor.executor_id,
        state=statuses.partition_aware(framework, mesos_pb2.TASK_DROPPED),
        reason=mesos_pb2.TaskStatus.REASON_EXECUTOR_TERMINATED,
        message=f"Executor {executor.state.value}",
    )
    step.receive(status)
