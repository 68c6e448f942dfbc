"""SUBSCRIBE: streams, lists, tasks that nobody knows any more (Mesos: SUBSCRIBE lists). No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, executors, records, statuses, updates
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.model import ENDING, ExecutorState
from services.local_agent.core.update_filter import Verdict
from services.local_agent.wire.call_validation import Refused, is_text, is_uuid

if TYPE_CHECKING:
    from services.local_agent.core.model import Executor
    from services.local_agent.core.step import Step

# Fixed in Mesos (slave/constants.hpp); --http_heartbeat_interval does not change it.
HEARTBEAT_SECS = 1800.0
_EARLY = Verdict.NOT_DELIVERED_YET.value


class CheckFailed(Exception):
    """Mesos' agent would abort here."""


def check_list(step: Step, executor: Executor, call: executor_pb2.Call) -> None:
    """Looks through the list of updates, which Mesos' agent believes unseen.

    Raises:
        Refused: A task id is not UTF-8. The only rule that is not Mesos': there the task would merely be unknown.
        CheckFailed: A uuid is malformed, or an update is of a task whose LAUNCH has not been sent; names the entry.
    """
    for index, update in enumerate(call.subscribe.unacknowledged_updates):
        where = f"subscribe.unacknowledged_updates[{index}].status"
        if not is_text(update.status.task_id.value):
            raise Refused(400, f"{where}.task_id.value: not UTF-8")
        if update.status.HasField("uuid") and not is_uuid(update.status.uuid):
            raise CheckFailed(f"{where}.uuid: Not a valid UUID (Mesos' agent aborts here)")
        if updates.verdict_on(step, executor, update.status) is Verdict.NOT_DELIVERED_YET:
            raise CheckFailed(f"{where}.task_id: {update.status.task_id.value} was not launched yet ({_EARLY})")


def subscribe(step: Step, executor: Executor, call: executor_pb2.Call, stream: int, content_type: str) -> None:
    """A stream for the executor; it takes the place of an older one at once."""
    step.act(actions.OpenStream(stream, content_type, executor.executor_id))
    if executor.state in ENDING:
        step.act(actions.SendEvent(stream, executors.SHUTDOWN))
        step.act(actions.EndStream(stream))
        return
    if executor.stream is not None:
        step.act(actions.EndStream(executor.stream))
    executor.stream = stream
    step.record(records.ExecutorSubscribed(executor.container_id, step.now.monotonic))
    step.act(actions.CancelTimer(Timer(TimerKind.REGISTRATION, executor.container_id)))
    step.act(actions.StartTimer(Timer(TimerKind.HEARTBEAT, executor.container_id), HEARTBEAT_SECS))
    listed = [update.status for update in call.subscribe.unacknowledged_updates if update.status.HasField("uuid")]
    if any(status.state == mesos_pb2.TASK_STAGING for status in listed):
        executors.shut_down(step, executor)
    _drop_unknown_tasks(step, executor, {task.task_id.value for task in call.subscribe.unacknowledged_tasks})
    if not executor.was_sent_a_task and not executor.waiting():
        # Never sent a task and none to come: nothing would ever end it (Mesos: MESOS-8411).
        executors.shut_down(step, executor)
    else:
        step.send(executor, _subscribed(step, executor))
    for status in listed:
        if status.state != mesos_pb2.TASK_STAGING:
            updates.update(step, executor, status)
    if executor.state is ExecutorState.RUNNING:
        for batch in executor.waiting():
            step.deliver(executor, batch)


def heartbeat(step: Step, executor: Executor) -> None:
    """Keeps the stream's connection from being forgotten on the way."""
    step.send(executor, executor_pb2.Event(type=executor_pb2.Event.HEARTBEAT))
    step.act(actions.StartTimer(Timer(TimerKind.HEARTBEAT, executor.container_id), HEARTBEAT_SECS))


def _drop_unknown_tasks(step: Step, executor: Executor, listed: set[str]) -> None:
    framework = step.state.frameworks[executor.framework_id]
    if framework.torn_down:
        # Nobody is left who could be told; it hears SHUTDOWN when the agent is registered again.
        return
    for task in list(executor.tasks.values()):
        if task.delivered and task.state == mesos_pb2.TASK_STAGING and task.task_id not in listed:
            status = statuses.made_by_agent(
                step,
                task.task_id,
                executor.executor_id,
                state=statuses.partition_aware(framework, mesos_pb2.TASK_DROPPED),
                reason=mesos_pb2.TaskStatus.REASON_AGENT_RESTARTED,
                message="Task launched during agent restart",
            )
            step.accept(executor, task, status)


def _subscribed(step: Step, executor: Executor) -> executor_pb2.Event:
    event = executor_pb2.Event(type=executor_pb2.Event.SUBSCRIBED)
    body = event.subscribed
    body.executor_info.CopyFrom(executor.info)
    body.framework_info.CopyFrom(step.state.frameworks[executor.framework_id].info)
    body.agent_info.hostname = step.config.hostname
    body.agent_info.port = step.state.port
    body.agent_info.resources.extend(step.config.resources)
    body.agent_info.id.value = step.state.agent_id
    # Field 7, `checkpoint: true`: no longer declared in v1, but still on the wire.
    body.agent_info.MergeFromString(b"\x38\x01")
    body.container_id.value = executor.container_id
    return event
