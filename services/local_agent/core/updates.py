"""UPDATE after validation, and the scheduler's acknowledgements. Functions on a `Step`; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core import records, statuses
from services.local_agent.core.update_filter import Arrived, Verdict, judge

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Executor
    from services.local_agent.core.step import Step


def update(step: Step, sender: Executor, status: mesos_pb2.TaskStatus) -> Verdict:
    """Follows the second filter. The acknowledgement goes to the executor that owns the task."""
    verdict = verdict_on(step, sender, status)
    owner, task = step.state.find_task(status.task_id.value, sender.framework_id) or (None, None)
    if verdict is Verdict.FORWARD_UNCHECKED:
        step.accept_unowned(statuses.decorate(step, status, None))
    elif verdict is Verdict.ACKNOWLEDGE_ONLY and owner is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
    elif verdict is Verdict.ACCEPT and owner is not None and task is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
        step.accept(owner, task, statuses.decorate(step, status, owner), from_executor=True)
    return verdict


def verdict_on(step: Step, sender: Executor, status: mesos_pb2.TaskStatus) -> Verdict:
    """What the second filter says; nothing happens."""
    _, task = step.state.find_task(status.task_id.value, sender.framework_id) or (None, None)
    torn_down = step.state.frameworks[sender.framework_id].torn_down
    return judge(Arrived(status, task, step.state.agent_id, torn_down))


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
