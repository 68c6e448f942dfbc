"""UPDATE after validation, and the scheduler's acknowledgements. Functions on a `Step`; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core import records, statuses
from services.local_agent.core.update_filter import Verdict, judge

if TYPE_CHECKING:
    from mesos.v1 import mesos_pb2
    from services.local_agent.core.model import Executor
    from services.local_agent.core.step import Step


def update(step: Step, sender: Executor, status: mesos_pb2.TaskStatus) -> Verdict:
    """Follows the second filter. The acknowledgement goes to the executor that owns the task."""
    found = step.state.find_task(status.task_id.value, sender.framework_id)
    owner, task = found or (None, None)
    verdict = judge(status, task, step.state.agent_id)
    if verdict is Verdict.FORWARD_UNCHECKED:
        step.receive(statuses.decorate(step, status, None))
    elif verdict is Verdict.ACKNOWLEDGE_ONLY and owner is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
    elif verdict is Verdict.ACCEPT and owner is not None and task is not None:
        step.acknowledge(owner, status.task_id, status.uuid)
        step.accept(owner, task, statuses.decorate(step, status, owner), from_executor=True)
    return verdict


def acknowledged(step: Step, container_id: str, task_id: str, uuid: bytes) -> None:
    """The scheduler acknowledged; the next update of the task is on its way. Late and double ones have no effect."""
    executor = step.state.containers.get(container_id)
    task = executor.tasks.get(task_id) if executor else None
    if executor is None or task is None or not task.queue or task.queue[0].uuid != uuid:
        return
    step.record(records.UpdateAcknowledged(container_id, task_id, uuid))
    if task.queue:
        step.forward_head(executor, task)
