"""One input's way through the machine: its records and actions, and the tools that all decisions share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, records
from services.local_agent.core.evolve import apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1 import mesos_pb2
    from services.local_agent.core.actions import Action
    from services.local_agent.core.model import AgentState, Executor, Task
    from services.local_agent.core.records import Record


@dataclass(frozen=True)
class Moment:
    """When an input arrived: `wall` for statuses, `monotonic` (CLOCK_MONOTONIC) for stamps; seconds."""

    wall: float
    monotonic: float


@dataclass(frozen=True)
class Config:
    """Settings that decisions depend on. Durations in nanoseconds."""

    ip: str
    hostname: str
    resources: tuple[mesos_pb2.Resource, ...]
    executor_registration_timeout: int
    executor_reregistration_timeout: int
    executor_shutdown_grace_period: int


@dataclass
class Step:
    """Collects what one input causes. A record is applied at once, so that later decisions see it."""

    state: AgentState
    config: Config
    now: Moment
    new_uuid: Callable[[], bytes]
    records: list[Record] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    def record(self, record: Record) -> None:
        """A fact."""
        self.records.append(record)
        apply(self.state, record)

    def act(self, action: Action) -> None:
        """Something to do."""
        self.actions.append(action)

    def respond(self, status: int, body: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answers the request in hand."""
        self.act(actions.Respond(status, body, headers))

    def send(self, executor: Executor, event: executor_pb2.Event) -> bool:
        """Sends an event on the executor's stream; False: there is none."""
        if executor.stream is None:
            return False
        self.act(actions.SendEvent(executor.stream, event))
        return True

    def deliver(self, executor: Executor, task: Task) -> bool:
        """Sends LAUNCH. Without a stream it is lost, but the agent takes it for delivered, as Mesos' does."""
        event = executor_pb2.Event(type=executor_pb2.Event.LAUNCH)
        event.launch.task.CopyFrom(task.info)
        sent = self.send(executor, event)
        at = self.now.monotonic if sent else 0.0
        self.record(records.TaskDelivered(executor.container_id, task.task_id, at))
        return sent

    def acknowledge(self, executor: Executor, task_id: mesos_pb2.TaskID, uuid: bytes) -> None:
        """Tells the executor that its update is safe."""
        event = executor_pb2.Event(type=executor_pb2.Event.ACKNOWLEDGED)
        event.acknowledged.task_id.CopyFrom(task_id)
        event.acknowledged.uuid = uuid
        self.send(executor, event)

    def accept(
        self, executor: Executor, task: Task, status: mesos_pb2.TaskStatus, *, from_executor: bool = False
    ) -> None:
        """Puts a status at the end of the task's queue; only the head is on its way to the scheduler."""
        self.record(
            records.UpdateAccepted(
                executor.container_id, task.task_id, status.SerializeToString(), from_executor=from_executor
            )
        )
        if len(task.queue) == 1:
            self.forward_head(executor, task)

    def forward_head(self, executor: Executor, task: Task, *, recovering: bool = False) -> None:
        """Hands the head of the queue to the scheduler, once: after a restart it may have it already."""
        head = task.queue[0]
        if not recovering or not self.state.inboxes[task.task_id].has(head.uuid):
            self.receive(head)
        self.act(actions.AwaitAcknowledgement(executor.container_id, task.task_id, head.uuid))

    def receive(self, status: mesos_pb2.TaskStatus) -> None:
        """The scheduler gets a status."""
        task_id = status.task_id.value
        self.record(records.UpdateReceived(task_id, status.SerializeToString(), self.now.monotonic))
        self.act(actions.Notify(task_id))
