"""One input's way through the machine: its records and actions, and the tools that all decisions share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, durations, records
from services.local_agent.core.actions import Timer, TimerKind
from services.local_agent.core.evolve import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.local_agent.core.actions import Action
    from services.local_agent.core.model import AgentState, Executor, Task
    from services.local_agent.core.records import Record
    from services.local_agent.core.remarks import Remark
    from services.local_agent.wire.auth import Authenticator


# Status-update manager (Mesos: STATUS_UPDATE_RETRY_INTERVAL_MIN, _MAX).
RETRY_MIN_SECS = 10.0
RETRY_MAX_SECS = 600.0
_DRAINED = frozenset({mesos_pb2.TASK_KILLING, mesos_pb2.TASK_KILLED})


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
    # How long after the start 404, and then 503, is all that executors hear.
    not_found_for: int = 0
    unavailable_for: int = 0
    # Demands a token of every call.
    authenticator: Authenticator | None = None
    # `--recover=cleanup`: executors of an earlier process are shut down, and the agent ends after them.
    cleanup: bool = False
    # End the process where Mesos' agent fails a check, instead of refusing the call.
    abort_on_check_failure: bool = False


@dataclass
class Step:
    """Collects what one input causes. A record is applied at once, so that later decisions see it."""

    state: AgentState
    config: Config
    now: Moment
    new_uuid: Callable[[], bytes]
    # The agent is registered with its master, if there is one.
    registered: bool
    # Seconds to the next retry, by container and task id; never in the log (Mesos: begins anew after a restart).
    retries: dict[tuple[str, str], float]
    records: list[Record] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    # The call in hand, once it could be read.
    call: executor_pb2.Call | None = None

    def record(self, record: Record) -> None:
        """A fact."""
        self.records.append(record)
        apply(self.state, record)

    def act(self, action: Action) -> None:
        """Something to do."""
        self.actions.append(action)

    def remark(self, remark: Remark) -> None:
        """Something that an executor's author should hear of."""
        self.remarks.append(remark)

    def respond(self, status: int, body: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answers the request in hand."""
        self.act(actions.Respond(status, body, headers))

    def send(self, executor: Executor, event: executor_pb2.Event) -> bool:
        """Sends an event on the executor's stream; False: there is none."""
        if executor.stream is None:
            return False
        self.act(actions.SendEvent(executor.stream, event))
        return True

    def deliver(self, executor: Executor, batch: Sequence[Task]) -> bool:
        """Sends LAUNCH or LAUNCH_GROUP. Without a stream it is lost, but counts as delivered, as in Mesos."""
        if batch[0].group:
            event = executor_pb2.Event(type=executor_pb2.Event.LAUNCH_GROUP)
            event.launch_group.task_group.tasks.extend(task.info for task in batch)
        else:
            event = executor_pb2.Event(type=executor_pb2.Event.LAUNCH)
            event.launch.task.CopyFrom(batch[0].info)
        # Before it is told of them (Mesos: containerizer update, then the event).
        self.act(actions.UpdateContainer(executor.container_id))
        sent = self.send(executor, event)
        at = self.now.monotonic if sent else 0.0
        for task in batch:
            self.record(records.TaskDelivered(executor.container_id, task.task_id, at))
        return sent

    def acknowledge(self, executor: Executor, task_id: mesos_pb2.TaskID, uuid: bytes) -> None:
        """Tells the executor that its update is safe."""
        event = executor_pb2.Event(type=executor_pb2.Event.ACKNOWLEDGED)
        event.acknowledged.task_id.CopyFrom(task_id)
        event.acknowledged.uuid = uuid
        self.send(executor, event)

    # Towards the scheduler (Mesos: status-update manager).

    @property
    def forwarding(self) -> bool:
        """Statuses go out; else they are kept until the agent is registered again."""
        return self.registered and self.state.master_connected

    def accept(
        self, executor: Executor, task: Task, status: mesos_pb2.TaskStatus, *, from_executor: bool = False
    ) -> None:
        """Puts a status at the end of the task's queue; only the head is on its way to the scheduler."""
        self._mark_drained(status)
        self.record(
            records.UpdateAccepted(
                executor.container_id, task.task_id, status.SerializeToString(), from_executor=from_executor
            )
        )
        if task.terminal:
            self.act(actions.UpdateContainer(executor.container_id))
        if len(task.queue) == 1:
            self.forward_head(executor.container_id, task.task_id)

    def accept_unowned(self, status: mesos_pb2.TaskStatus, framework_id: str) -> None:
        """The same for a status of a task that no executor of this framework owns."""
        task_id = status.task_id.value
        self._mark_drained(status)
        self.record(records.UnownedAccepted(task_id, status.SerializeToString(), framework_id))
        if len(self.state.unowned[task_id]) == 1:
            self.forward_head("", task_id)

    def forward_head(self, container_id: str, task_id: str, *, resuming: bool = False) -> None:
        """Hands the head of a queue to the scheduler; when `resuming`, only if it has not got it already."""
        if not self.forwarding:
            return
        head = self.state.queue(container_id, task_id)[0]
        inbox = self.state.inboxes.get(task_id)
        if not resuming or inbox is None or not inbox.has(head.uuid):
            self.receive(head)
        if self.state.scheduler_acknowledges:
            self.act(actions.AwaitAcknowledgement(container_id, task_id, head.uuid))
        else:
            self._retry_in(container_id, task_id, RETRY_MIN_SECS)

    def say_as_master(self, status: mesos_pb2.TaskStatus) -> None:
        """The scheduler gets what its master makes: at once, or when there is a master again."""
        if self.state.master_connected:
            self.receive(status)
        else:
            self.record(records.StatusHeld(status.SerializeToString()))

    def forward_all(self) -> None:
        """The agent is registered (again), or the scheduler behaves otherwise: every head sets out anew."""
        if self.state.held and self.state.master_connected:
            held = list(self.state.held)
            self.record(records.HeldReleased())
            for status in held:
                self.receive(status)
        for container_id, task_id in self.state.queues():
            self.stop_retrying(container_id, task_id)
            self.forward_head(container_id, task_id, resuming=True)

    def retry(self, container_id: str, task_id: str) -> None:
        """The scheduler has not acknowledged in time: it gets the same again, and twice the time."""
        seconds = self.retries.pop((container_id, task_id), 0.0)
        queue = self.state.queue(container_id, task_id)
        if seconds and queue and self.forwarding:
            self.receive(queue[0])
            self._retry_in(container_id, task_id, min(2 * seconds, RETRY_MAX_SECS))

    def stop_retrying(self, container_id: str, task_id: str) -> None:
        """The head is acknowledged, or sets out anew."""
        if self.retries.pop((container_id, task_id), 0.0):
            self.act(actions.CancelTimer(Timer(TimerKind.RETRY, container_id, task_id)))

    def receive(self, status: mesos_pb2.TaskStatus) -> None:
        """The scheduler gets a status."""
        task_id = status.task_id.value
        self.record(records.UpdateReceived(task_id, status.SerializeToString(), self.now.monotonic))
        self.act(actions.Notify(task_id))

    def start_timer(self, timer: Timer, nanoseconds: int) -> None:
        """`Machine.timer_fired` follows after that time."""
        self.act(actions.StartTimer(timer, durations.seconds(nanoseconds)))

    def _retry_in(self, container_id: str, task_id: str, seconds: float) -> None:
        self.retries[container_id, task_id] = seconds
        self.act(actions.StartTimer(Timer(TimerKind.RETRY, container_id, task_id), seconds))

    def _mark_drained(self, status: mesos_pb2.TaskStatus) -> None:
        # Mesos: who fills what in TaskStatus, agent drain.
        if self.state.draining and status.state in _DRAINED:
            status.reason = mesos_pb2.TaskStatus.REASON_AGENT_DRAINING
