"""What the driver remembers of a task and of an update. Plain classes: loaded before SUBSCRIBE is sent."""

from __future__ import annotations

REPORTER = 1
DRIVER = 2
# mesos.v1.TaskState numbers that end a task (Mesos: task states).
TERMINAL_STATES = frozenset({2, 3, 4, 5, 7, 9, 11, 12})
# What has been decided on the tasks of one LAUNCH_GROUP.
GROUP_OPEN = 0
GROUP_STARTED = 1
GROUP_REFUSED = 2
# Launch number in the key of a task that this executor never had.
STRAY = 0


class EndRequest:
    """Somebody wants the task to end (`trivet.link.v1.EndRequest`)."""

    __slots__ = ("cause", "deadline", "grace", "message", "requested_at", "seq")

    def __init__(
        self, cause: int, seq: int, grace: float | None, deadline: float, message: str, requested_at: float
    ) -> None:
        self.cause = cause
        self.seq = seq
        self.grace = grace
        self.deadline = deadline
        self.message = message
        self.requested_at = requested_at


class Accepted:
    """A proposal that went into the outbox. `epoch` is empty for the driver's own fallback statuses."""

    __slots__ = ("epoch", "n", "state", "uuid")

    def __init__(self, epoch: str, n: int, uuid: bytes, state: int) -> None:
        self.epoch = epoch
        self.n = n
        self.uuid = uuid
        self.state = state


class Latch:
    """The one terminal status of a task."""

    __slots__ = ("acknowledged", "at", "origin", "state", "uuid")

    def __init__(self, state: int, uuid: bytes, origin: int, at: float) -> None:
        self.state = state
        self.uuid = uuid
        self.origin = origin
        self.at = at
        self.acknowledged = False


class Task:
    """One launch of a task. Times are CLOCK_BOOTTIME, seconds."""

    __slots__ = (
        "accepted",
        "completes_at",
        "ends",
        "group",
        "info",
        "latch",
        "launch",
        "launched_at",
        "listed",
        "task_id",
        "task_state",
        "verdict",
    )

    def __init__(self, task_id: str, launch: int, info: bytes, launched_at: float, group: int = 0) -> None:
        self.task_id = task_id
        # Number of its group; 0: it came alone.
        self.group = group
        self.launch = launch
        # mesos.v1.TaskInfo, byte for byte as received.
        self.info = info
        self.launched_at = launched_at
        # In SUBSCRIBE's unacknowledged_tasks until the first acknowledgement.
        self.listed = True
        # CLOCK_BOOTTIME at which its max_completion_time is over; 0: it has none, or no process has been started yet.
        self.completes_at = 0.0
        self.ends: list[EndRequest] = []
        # Serialised trivet.link.v1.TaskState and Verdict, the newest; empty until they come.
        self.task_state = b""
        self.verdict = b""
        self.accepted: list[Accepted] = []
        self.latch: Latch | None = None

    @property
    def key(self) -> str:
        """The coordinator's name of the task."""
        return f"{self.launch}:{self.task_id}"

    def accepted_as(self, epoch: str, n: int) -> Accepted | None:
        """The proposal of that reference, when it was accepted."""
        for entry in self.accepted:
            if entry.n == n and entry.epoch == epoch:
                return entry
        return None


class Update:
    """A status on its way: exactly these bytes, this uuid, until the agent acknowledges."""

    __slots__ = ("key", "payload", "state", "uuid")

    def __init__(self, key: str, uuid: bytes, state: int, payload: bytes) -> None:
        self.key = key
        self.uuid = uuid
        self.state = state
        # Serialised `Call.Update`.
        self.payload = payload

    @property
    def stray(self) -> bool:
        """Of a task that the executor never had: nobody will acknowledge it."""
        return self.key.startswith(f"{STRAY}:")

    @property
    def terminal(self) -> bool:
        """Ends its task."""
        return self.state in TERMINAL_STATES
