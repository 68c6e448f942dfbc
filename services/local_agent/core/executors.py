"""Ends of executors: SHUTDOWN, destroy, exits, timeouts. Functions on a `Step`; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, durations, records, statuses
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import ENDING, ExecutorState, Termination

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.local_agent.core.model import Executor, Framework
    from services.local_agent.core.step import Step

_Status = mesos_pb2.TaskStatus
SHUTDOWN = executor_pb2.Event(type=executor_pb2.Event.SHUTDOWN)
DEFAULT_TERMINATION = Termination(
    mesos_pb2.TASK_FAILED, mesos_pb2.TaskStatus.REASON_EXECUTOR_TERMINATED, "Executor terminated"
)


def grace_period(step: Step, executor: Executor) -> int:
    """Between SHUTDOWN and destroy, nanoseconds: the executor's own wish wins."""
    if executor.info.HasField("shutdown_grace_period"):
        return executor.info.shutdown_grace_period.nanoseconds
    return step.config.executor_shutdown_grace_period


def shut_down(step: Step, executor: Executor) -> bool:
    """SHUTDOWN now, destroy after the grace period. Returns whether SHUTDOWN could be sent."""
    if executor.state in ENDING:
        return False
    step.record(records.ExecutorTerminating(executor.container_id))
    sent = step.send(executor, SHUTDOWN)
    step.act(actions.CancelTimer(Timer(TimerKind.REGISTRATION, executor.container_id)))
    timer = Timer(TimerKind.SHUTDOWN_GRACE, executor.container_id)
    step.start_timer(timer, grace_period(step, executor))
    return sent


def tear_down(step: Step, framework: Framework) -> None:
    """The framework ends: SHUTDOWN to its executors; what they still send is dropped (Mesos: teardown)."""
    for executor in framework.executors.values():
        for task in executor.tasks.values():
            step.stop_retrying(executor.container_id, task.task_id)
    unowned = [task_id for task_id, whose in step.state.unowned_frameworks.items() if framework.framework_id in whose]
    for task_id in unowned:
        step.stop_retrying("", task_id)
    step.record(records.FrameworkTornDown(framework.framework_id))
    for task_id in unowned:
        if step.state.queue("", task_id):
            # Of another framework, with a task of the same id.
            step.forward_head("", task_id, resuming=True)
    for executor in list(framework.executors.values()):
        shut_down(step, executor)


def destroy(step: Step, executor: Executor, termination: Termination | None = None) -> None:
    """SIGKILL now. `termination`: how its tasks end, when not by default."""
    if executor.state is ExecutorState.TERMINATED:
        return
    if termination is None:
        step.record(records.ExecutorTerminating(executor.container_id))
    else:
        step.record(
            records.ExecutorTerminating(
                executor.container_id,
                termination.state,
                termination.reason,
                termination.message,
                termination.limitation,
            )
        )
    step.act(actions.DestroyContainer(executor.container_id))


def limited(step: Step, executor: Executor, message: str, resources: Sequence[mesos_pb2.Resource]) -> None:
    """The container has used more than its memory: it is destroyed (Mesos: CONTAINER_LIMITATION_MEMORY).

    What already has a reason to end keeps that one.
    """
    if executor.termination is not None:
        return
    limitation = mesos_pb2.TaskResourceLimitation(resources=resources).SerializeToString()
    reason = _Status.REASON_CONTAINER_LIMITATION_MEMORY
    destroy(step, executor, Termination(mesos_pb2.TASK_FAILED, reason, message, limitation))


def registration_timed_out(step: Step, executor: Executor) -> None:
    """The executor has not subscribed since its launch."""
    if executor.state is not ExecutorState.REGISTERING:
        return
    limit = durations.render(step.config.executor_registration_timeout)
    termination = Termination(
        mesos_pb2.TASK_FAILED,
        _Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
        f"Executor did not register within {limit}",
    )
    destroy(step, executor, termination)


def reregistration_timed_out(step: Step) -> None:
    """End of the window after a restart: who has not come back is destroyed."""
    limit = durations.render(step.config.executor_reregistration_timeout)
    for executor in step.state.executors():
        if executor.state is not ExecutorState.REGISTERING:
            continue
        framework = step.state.frameworks[executor.framework_id]
        termination = Termination(
            statuses.partition_aware(framework, mesos_pb2.TASK_GONE),
            _Status.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
            f"Executor did not reregister within {limit}",
        )
        destroy(step, executor, termination)


def exited(step: Step, executor: Executor, exit_code: int | None, exit_signal: int | None) -> None:
    """The executor's process is gone: tasks without an end get one."""
    if executor.state is ExecutorState.TERMINATED:
        return
    if not step.state.frameworks[executor.framework_id].torn_down:
        _end_tasks(step, executor, executor.termination or DEFAULT_TERMINATION)
    code = -1 if exit_code is None else exit_code
    number = -1 if exit_signal is None else exit_signal
    step.record(records.ContainerExited(executor.container_id, code, number))
    for kind in (TimerKind.REGISTRATION, TimerKind.SHUTDOWN_GRACE, TimerKind.HEARTBEAT):
        step.act(actions.CancelTimer(Timer(kind, executor.container_id)))
    # The stream stays open and silent, as in Mesos.
    executor.stream = None


def launch_failed(step: Step, executor: Executor, why: str) -> None:
    """The executor's process could not be started."""
    if executor.termination is None and executor.state is not ExecutorState.TERMINATED:
        termination = Termination(
            mesos_pb2.TASK_FAILED, _Status.REASON_CONTAINER_LAUNCH_FAILED, f"Failed to launch container: {why}"
        )
        step.record(
            records.ExecutorTerminating(
                executor.container_id, termination.state, termination.reason, termination.message
            )
        )
    exited(step, executor, None, None)


def forget_unrecoverable(step: Step) -> None:
    """A new process: executors without checkpointing are lost."""
    for executor in step.state.executors():
        if not step.state.frameworks[executor.framework_id].info.checkpoint:
            say_as_master(step, executor, statuses.lost_with_agent)
            step.record(records.ExecutorForgotten(executor.container_id))


def say_as_master(step: Step, executor: Executor, status_of: Callable[[Step, str, str], mesos_pb2.TaskStatus]) -> None:
    """What the master says of all tasks without an end; nothing when the framework is over."""
    if step.state.frameworks[executor.framework_id].torn_down:
        return
    for task in executor.tasks.values():
        if not task.terminal:
            step.say_as_master(status_of(step, task.task_id, executor.executor_id))


def _end_tasks(step: Step, executor: Executor, termination: Termination) -> None:
    for task in list(executor.tasks.values()):
        if not task.terminal:
            status = statuses.made_by_agent(
                step,
                task.task_id,
                executor.executor_id,
                state=termination.state,
                reason=termination.reason,
                message=termination.message,
                limitation=termination.limitation,
            )
            step.accept(executor, task, status)
