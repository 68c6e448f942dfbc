"""UPDATE after validation, and the scheduler's acknowledgements. Functions on a `Step`; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.core import records, remarks, statuses
from services.local_agent.core.update_filter import Arrived, Verdict, judge, rule_for

if TYPE_CHECKING:
    from services.local_agent.core.model import Executor, Task
    from services.local_agent.core.step import Step


# Every other verdict an executor's author should hear of. What was too early is refused.
_FOLLOWED = frozenset({Verdict.ACCEPT, Verdict.NOT_DELIVERED_YET})


def update(step: Step, sender: Executor, status: mesos_pb2.TaskStatus) -> Verdict:
    """Follows the second filter. The acknowledgement goes to the executor that owns the task."""
    verdict = verdict_on(step, sender, status)
    owner, task = step.state.find_task(status.task_id.value, sender.framework_id) or (None, None)
    if verdict not in _FOLLOWED:
        _remark(step, sender, task, status)
    if verdict is Verdict.FORWARD_UNCHECKED:
        step.accept_unowned(statuses.decorate(step, status, None), sender.framework_id)
    elif verdict is Verdict.ACKNOWLEDGE_ONLY and owner is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
    elif verdict is Verdict.ACCEPT and owner is not None and task is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
        step.accept(owner, task, statuses.decorate(step, status, owner), from_executor=True)
    return verdict


def verdict_on(step: Step, sender: Executor, status: mesos_pb2.TaskStatus) -> Verdict:
    """What the second filter says; nothing happens."""
    _, task = step.state.find_task(status.task_id.value, sender.framework_id) or (None, None)
    return judge(_arrived(step, sender, task, status))


def _arrived(step: Step, sender: Executor, task: Task | None, status: mesos_pb2.TaskStatus) -> Arrived:
    torn_down = step.state.frameworks[sender.framework_id].torn_down
    return Arrived(status, task, step.state.agent_id, torn_down)


def _remark(step: Step, sender: Executor, task: Task | None, status: mesos_pb2.TaskStatus) -> None:
    """Not of what is sent once more, nor of what comes from executors of a framework that has been ended."""
    arrived = _arrived(step, sender, task, status)
    task_id = status.task_id.value
    inbox = step.state.inboxes.get(task_id)
    known = [entry.status for entry in inbox.received] if inbox is not None else []
    known += task.queue if task is not None else step.state.unowned.get(task_id, ())
    if arrived.torn_down or any(remarks.same(status, one) for one in known):
        return
    words, verdict = rule_for(arrived)
    step.remark(
        remarks.IgnoredUpdate(
            sender.container_id,
            sender.framework_id,
            sender.executor_id,
            task_id,
            mesos_pb2.TaskState.Name(status.state),
            f"{words}: {verdict.value}",
        )
    )


def acknowledged(step: Step, container_id: str, task_id: str, uuid: bytes) -> bool:
    """The scheduler acknowledged; the next update of the task is on its way. False: late or double, without effect."""
    queue = step.state.queue(container_id, task_id)
    if not queue or queue[0].uuid != uuid:
        return False
    step.stop_retrying(container_id, task_id)
    step.record(records.UpdateAcknowledged(container_id, task_id, uuid))
    if step.state.queue(container_id, task_id):
        step.forward_head(container_id, task_id)
    return True


def acknowledged_by_hand(step: Step, task_id: str, uuid: bytes) -> bytes:
    """Acknowledges what the scheduler has of a task; `uuid`: this one only, empty: whichever. Empty answer: nothing."""
    inbox = step.state.inboxes.get(task_id)
    for container_id, queued_task in step.state.queues():
        head = step.state.queue(container_id, queued_task)[0].uuid
        if queued_task == task_id and uuid in {b"", head} and inbox is not None and inbox.has(head):
            acknowledged(step, container_id, task_id, head)
            return head
    return b""
