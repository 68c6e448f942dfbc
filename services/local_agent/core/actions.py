"""What the machine wants done, in this order, after its records are in the log."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesos.v1.executor import executor_pb2


class TimerKind(enum.Enum):
    """What a timer waits for."""

    REGISTRATION = "registration"
    REREGISTRATION = "re-registration"
    SHUTDOWN_GRACE = "shutdown grace"
    HEARTBEAT = "heartbeat"
    RETRY = "retry of an update that the scheduler has not acknowledged"
    NOT_FOUND = "time without routes"
    UNAVAILABLE = "time of recovery"


@dataclass(frozen=True)
class Timer:
    """Identity of a timer. Container id: empty for the agent's own; task id: of retries only."""

    kind: TimerKind
    container_id: str = ""
    task_id: str = ""


@dataclass(frozen=True)
class Action:
    """Base of all actions."""


@dataclass(frozen=True)
class Respond(Action):
    """Answers the request in hand."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OpenStream(Action):
    """Answers the request in hand by the head of an event stream; its connection becomes `stream`."""

    stream: int
    content_type: str
    # Whose stream it is: for faults.
    executor_id: str = field(default="", compare=False)


@dataclass(frozen=True)
class SendEvent(Action):
    """Writes one event; without effect when the connection is gone (the event is lost, as in Mesos)."""

    stream: int
    event: executor_pb2.Event


@dataclass(frozen=True)
class EndStream(Action):
    """Writes the final chunk. The connection stays open."""

    stream: int


@dataclass(frozen=True)
class StartTimer(Action):
    """Starts a timer anew; `Machine.timer_fired` is the answer."""

    timer: Timer
    seconds: float


@dataclass(frozen=True)
class CancelTimer(Action):
    """Stops a timer if it runs."""

    timer: Timer


@dataclass(frozen=True)
class LaunchContainer(Action):
    """Starts the executor's process; `container_forked` or `container_failed` is the answer."""

    container_id: str


@dataclass(frozen=True)
class UpdateContainer(Action):
    """The container's limits follow the resources of its executor and tasks, before the next action is carried out."""

    container_id: str


@dataclass(frozen=True)
class DestroyContainer(Action):
    """SIGKILL to the container's processes; `container_exited` is the answer."""

    container_id: str


@dataclass(frozen=True)
class Notify(Action):
    """The scheduler has a new status of the task: its watchers are told."""

    task_id: str


@dataclass(frozen=True)
class AwaitAcknowledgement(Action):
    """The scheduler has the head of the task's queue; `scheduler_acknowledged` is its answer.

    Container id: empty when no executor owns the task.
    """

    container_id: str
    task_id: str
    uuid: bytes


@dataclass(frozen=True)
class PassMessage(Action):
    """The scheduler gets a MESSAGE from an executor; nobody keeps it."""

    framework_id: str
    executor_id: str
    data: bytes


@dataclass(frozen=True)
class RecoverContainers(Action):
    """Looks for the processes of an earlier run; `containers_recovered` is the answer."""


@dataclass(frozen=True)
class EndAgent(Action):
    """The process has nothing left to do: final chunk to all streams, then the end."""


@dataclass(frozen=True)
class Abort(Action):
    """The process ends by SIGABRT, as Mesos' agent does where a check fails."""

    why: str
