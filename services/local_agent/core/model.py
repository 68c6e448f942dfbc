"""What the agent knows of frameworks, executors and tasks, and what the scheduler has received."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

# As much is remembered of what is over (Mesos: MAX_COMPLETED_EXECUTORS_PER_FRAMEWORK, MAX_COMPLETED_FRAMEWORKS; the
# master's --max_completed_tasks_per_framework).
MAX_ENDED_EXECUTORS = 150
MAX_IDLE_FRAMEWORKS = 50
MAX_ENDED_TASKS = 1000
# Ids of frameworks that were torn down; there Mesos' master forgets sooner.
MAX_TORN_DOWN = 10_000
# Newest statuses of one task at the scheduler, and their bytes; the newest one is remembered however long it is.
MAX_RECEIVED = 1000
MAX_RECEIVED_BYTES = 4 << 20
# Bytes of the statuses of all tasks that have ended.
MAX_ENDED_BYTES = 32 << 20

TERMINAL_STATES = frozenset(
    {
        mesos_pb2.TASK_FINISHED,
        mesos_pb2.TASK_FAILED,
        mesos_pb2.TASK_KILLED,
        mesos_pb2.TASK_ERROR,
        mesos_pb2.TASK_LOST,
        mesos_pb2.TASK_DROPPED,
        mesos_pb2.TASK_GONE,
        mesos_pb2.TASK_GONE_BY_OPERATOR,
    }
)


class ExecutorState(enum.Enum):
    """Life of one run of an executor, as in Mesos' agent."""

    REGISTERING = "registering"
    RUNNING = "running"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class ExecutorInput(enum.Enum):
    """What moves an executor from state to state."""

    SUBSCRIBED = "subscribed"
    AGENT_STARTED = "agent started"
    ORDERED_TO_END = "ordered to end"
    EXITED = "exited"


# Pairs that are absent are errors of this program.
EXECUTOR_TRANSITIONS: dict[tuple[ExecutorState, ExecutorInput], ExecutorState] = {
    (ExecutorState.REGISTERING, ExecutorInput.SUBSCRIBED): ExecutorState.RUNNING,
    (ExecutorState.REGISTERING, ExecutorInput.AGENT_STARTED): ExecutorState.REGISTERING,
    (ExecutorState.REGISTERING, ExecutorInput.ORDERED_TO_END): ExecutorState.TERMINATING,
    (ExecutorState.REGISTERING, ExecutorInput.EXITED): ExecutorState.TERMINATED,
    (ExecutorState.RUNNING, ExecutorInput.SUBSCRIBED): ExecutorState.RUNNING,
    (ExecutorState.RUNNING, ExecutorInput.AGENT_STARTED): ExecutorState.REGISTERING,
    (ExecutorState.RUNNING, ExecutorInput.ORDERED_TO_END): ExecutorState.TERMINATING,
    (ExecutorState.RUNNING, ExecutorInput.EXITED): ExecutorState.TERMINATED,
    # Mesos' agent does not remember an order to end over its own restart.
    (ExecutorState.TERMINATING, ExecutorInput.AGENT_STARTED): ExecutorState.REGISTERING,
    (ExecutorState.TERMINATING, ExecutorInput.ORDERED_TO_END): ExecutorState.TERMINATING,
    (ExecutorState.TERMINATING, ExecutorInput.EXITED): ExecutorState.TERMINATED,
    (ExecutorState.TERMINATED, ExecutorInput.AGENT_STARTED): ExecutorState.TERMINATED,
}
ENDING = frozenset({ExecutorState.TERMINATING, ExecutorState.TERMINATED})


@dataclass
class Task:
    """A task whose end the scheduler has not acknowledged yet."""

    task_id: str
    info: mesos_pb2.TaskInfo
    # The same for all tasks that go in one LAUNCH_GROUP; empty: goes alone.
    group: str = ""
    # False: waits in the agent for its executor.
    delivered: bool = False
    state: int = mesos_pb2.TASK_STAGING
    # Not yet acknowledged by the scheduler; only the first one is on its way to it.
    queue: deque[mesos_pb2.TaskStatus] = field(default_factory=deque)
    seen: set[bytes] = field(default_factory=set)

    @property
    def terminal(self) -> bool:
        """The task has ended; nothing that comes after it counts."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Termination:
    """How the tasks end that have no end yet when the executor is gone."""

    state: int
    reason: int
    message: str
    # A TaskResourceLimitation, serialized; empty: none.
    limitation: bytes = b""


@dataclass
class Executor:
    """One run of an executor: one container."""

    framework_id: str
    executor_id: str
    container_id: str
    info: mesos_pb2.ExecutorInfo
    sandbox: str
    launched_at: float
    state: ExecutorState = ExecutorState.REGISTERING
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    subscribed_at: float = 0.0
    # Has sent a status of a task of its own (Mesos: everSentTask).
    reported: bool = False
    termination: Termination | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    # The open event stream; never in the log.
    stream: int | None = None

    @property
    def launch_failure(self) -> str:
        """Why its process could not be started; empty: it was, or will be."""
        failed = mesos_pb2.TaskStatus.REASON_CONTAINER_LAUNCH_FAILED
        return self.termination.message if self.termination and self.termination.reason == failed else ""

    @property
    def was_sent_a_task(self) -> bool:
        """Mesos: everSentTask. A launched task that has ended without a word from the executor does not count."""
        return self.reported or any(task.delivered and not task.terminal for task in self.tasks.values())

    def waiting(self) -> list[list[Task]]:
        """What goes in one event each: tasks that go alone first, then groups (Mesos: queued tasks, queued groups)."""
        batches: dict[tuple[bool, str], list[Task]] = {}
        for task in self.tasks.values():
            if not task.delivered and not task.terminal:
                batches.setdefault((bool(task.group), task.group or task.task_id), []).append(task)
        return [batches[key] for key in sorted(batches, key=lambda key: key[0])]


@dataclass
class Framework:
    """A scheduler, as far as the agent knows it."""

    framework_id: str
    info: mesos_pb2.FrameworkInfo
    executors: dict[str, Executor] = field(default_factory=dict)
    # Its executors are shut down; what they send counts for nothing.
    torn_down: bool = False

    def has_capability(self, capability: mesos_pb2.FrameworkInfo.Capability.Type) -> bool:
        """Whether the framework declared it."""
        return any(declared.type == capability for declared in self.info.capabilities)


@dataclass(frozen=True)
class Received:
    """A status at the scheduler; `at` is CLOCK_MONOTONIC, seconds."""

    status: mesos_pb2.TaskStatus
    at: float
    # Of the status, in bytes.
    size: int = 0


@dataclass
class Inbox:
    """What the scheduler knows of one task id."""

    received: deque[Received] = field(default_factory=deque)
    # Statuses that came before those of `received`.
    forgotten: int = 0
    # Of all in `received`, bytes.
    size: int = 0
    launch_written_at: float = 0.0
    kill_written_at: float = 0.0

    def has(self, uuid: bytes) -> bool:
        """The scheduler has the status with this uuid."""
        return any(entry.status.uuid == uuid for entry in self.received)


@dataclass
class AgentState:
    """Everything. Changed by `evolve.apply` only, except for `Executor.stream`."""

    agent_id: str = ""
    boot_id: str = ""
    port: int = 0
    # Processes that have worked on this log.
    starts: int = 0
    frameworks_made: int = 0
    scheduler_acknowledges: bool = True
    master_connected: bool = True
    # The master was told that this agent goes: the next process is a new one.
    leaving: bool = False
    # Made by the master while the agent had none.
    held: list[mesos_pb2.TaskStatus] = field(default_factory=list)
    draining: bool = False
    # Nanoseconds; None: the tasks' own policies hold.
    drain_grace: int | None = None
    frameworks: dict[str, Framework] = field(default_factory=dict)
    # Ids that cannot be used again, oldest first; the values mean nothing.
    torn_down: dict[str, None] = field(default_factory=dict)
    containers: dict[str, Executor] = field(default_factory=dict)
    ended: list[Executor] = field(default_factory=list)
    inboxes: dict[str, Inbox] = field(default_factory=dict)
    # Keys of `inboxes` without a live task, in the order of the last word on them; the values mean nothing.
    ended_tasks: dict[str, None] = field(default_factory=dict)
    # Statuses of tasks that no executor owns, not yet acknowledged by the scheduler.
    unowned: dict[str, deque[mesos_pb2.TaskStatus]] = field(default_factory=dict)
    # The framework of each of them.
    unowned_frameworks: dict[str, deque[str]] = field(default_factory=dict)

    def executors(self) -> Iterator[Executor]:
        """All that are not over."""
        yield from list(self.containers.values())

    def executor(self, framework_id: str, executor_id: str) -> Executor | None:
        """The current run."""
        framework = self.frameworks.get(framework_id)
        return framework.executors.get(executor_id) if framework else None

    def find_task(self, task_id: str, framework_id: str | None = None) -> tuple[Executor, Task] | None:
        """A live task and its executor."""
        for executor in self.containers.values():
            if framework_id in {None, executor.framework_id} and task_id in executor.tasks:
                return executor, executor.tasks[task_id]
        return None

    def queue(self, container_id: str, task_id: str) -> deque[mesos_pb2.TaskStatus]:
        """A task's statuses on their way to the scheduler. Container id: empty for a task that nobody owns."""
        if not container_id:
            return self.unowned.get(task_id, deque())
        executor = self.containers.get(container_id)
        task = executor.tasks.get(task_id) if executor else None
        return task.queue if task else deque()

    def queues(self) -> Iterator[tuple[str, str]]:
        """Container and task id of every queue that is not empty."""
        for executor in self.executors():
            for task in executor.tasks.values():
                if task.queue:
                    yield executor.container_id, task.task_id
        for task_id in list(self.unowned):
            yield "", task_id

    def by_stream(self, stream: int) -> Executor | None:
        """The executor that listens on `stream`."""
        return next((executor for executor in self.containers.values() if executor.stream == stream), None)
