"""Records that stand at the beginning of a compacted log only (`snapshot`)."""

from __future__ import annotations

from dataclasses import dataclass

from services.local_agent.core.records import TYPES, Record


@dataclass(frozen=True)
class StateRestored(Record):
    """Everything of the agent itself."""

    agent_id: str
    boot_id: str
    port: int
    starts: int
    frameworks_made: int
    scheduler_acknowledges: bool
    master_connected: bool
    draining: bool
    drain_grace: int
    torn_down: tuple[str, ...]
    leaving: bool = False


@dataclass(frozen=True)
class FrameworkRestored(Record):
    """A framework without its executors."""

    framework_id: str
    info: bytes
    torn_down: bool


@dataclass(frozen=True)
class ExecutorRestored(Record):
    """A run of an executor without its tasks. -1: not known, or not so; `ended`: nobody finds it any more."""

    container_id: str
    framework_id: str
    executor_id: str
    info: bytes
    sandbox: str
    launched_at: float
    state: str
    pid: int
    start_ticks: int
    boot_id: str
    subscribed_at: float
    reported: bool
    termination_state: int
    termination_reason: int
    termination_message: str
    termination_limitation: bytes
    exit_code: int
    exit_signal: int
    ended: bool


@dataclass(frozen=True)
class TaskRestored(Record):
    """A task with what the scheduler has not acknowledged. `seen`: uuids, 16 bytes each."""

    container_id: str
    task_id: str
    info: bytes
    group: str
    delivered: bool
    state: int
    seen: bytes


@dataclass(frozen=True)
class QueuedRestored(Record):
    """One status of a task's queue, in order. A task that nobody owns has no container id, but a framework id."""

    container_id: str
    task_id: str
    status: bytes
    framework_id: str = ""


@dataclass(frozen=True)
class InboxRestored(Record):
    """What the scheduler knows of a task id, without the statuses. `over`: no such task is alive."""

    task_id: str
    launch_written_at: float
    kill_written_at: float
    forgotten: int
    over: bool


_ALL: tuple[type[Record], ...] = (
    StateRestored,
    FrameworkRestored,
    ExecutorRestored,
    TaskRestored,
    QueuedRestored,
    InboxRestored,
)
TYPES.update({cls.__name__: cls for cls in _ALL})
