"""What the coordinator remembers: runs, probes, adopted orphans, and the tasks that they belong to."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORKED = "forked"
RUNNING = "running"
EXITED = "exited"
NOT_STARTED = "not_started"


class Run:
    """One run of one process. Kept until the task is forgotten, so that an exit status is never lost."""

    __slots__ = (
        "code", "core", "error", "exited_at", "forked_at", "marker", "pid", "process", "run", "signal", "state", "task",
        "ticks",
    )  # fmt: skip

    def __init__(self, task: str, process: str, run: int, marker: str, forked_at: float) -> None:
        self.task = task
        self.process = process
        self.run = run
        self.marker = marker
        self.state = FORKED
        self.pid = 0
        """Also its session: every run leads its own."""
        self.ticks = 0
        self.code: int | None = None
        self.signal: int | None = None
        self.core = False
        self.error = ""
        self.forked_at = forked_at
        self.exited_at = 0.0

    @property
    def over(self) -> bool:
        """The process has ended or never was."""
        return self.state in (EXITED, NOT_STARTED)

    def to_wire(self) -> dict[str, Any]:
        """As the driver is told."""
        return {
            "process": self.process,
            "run": self.run,
            "state": self.state,
            "pid": self.pid,
            "ticks": self.ticks,
            "code": self.code,
            "signal": self.signal,
            "core": self.core,
            "error": self.error,
            "forked_at": self.forked_at,
            "exited_at": self.exited_at,
            "sid": self.pid,
            "marker": self.marker,
        }


class Probe:
    """One command probe that is being carried out."""

    __slots__ = (
        "cancelled", "code", "due", "error", "id", "marker", "output", "over", "pid", "pipe", "signal", "started",
        "task", "timed_out",
    )  # fmt: skip

    TAIL = 1024
    """Bytes of output that are kept: the last ones."""

    def __init__(self, probe_id: str, task: str, marker: str, started: float, due: float) -> None:
        self.id = probe_id
        self.task = task
        self.marker = marker
        self.pid = 0
        self.pipe = -1
        self.started = started
        self.due = due
        """When it is killed (infinity: never); once it was killed: when it is given up."""
        self.output = bytearray()
        self.code: int | None = None
        self.signal: int | None = None
        self.error = ""
        self.timed_out = False
        self.cancelled = False
        self.over = False
        """Answered. What is left of it is killed as soon as it shows."""

    def keep(self, data: bytes) -> None:
        """Take in output."""
        self.output += data
        del self.output[: -self.TAIL]

    def answer(self, now: float) -> dict[str, Any]:
        """The event for the driver."""
        return {
            "ev": "probe",
            "id": self.id,
            "task": self.task,
            "code": self.code,
            "signal": self.signal,
            "timeout": self.timed_out,
            "output": self.output.decode("utf-8", "replace"),
            "error": "cancelled" if self.cancelled else self.error,
            "secs": round(now - self.started, 6),
        }


class Orphan:
    """A child that was not started by us: its parent died."""

    __slots__ = ("origin", "pid", "sid", "task")

    def __init__(self, pid: int, sid: int, task: str, origin: Run | Probe | None) -> None:
        self.pid = pid
        self.sid = sid
        self.task = task
        """Empty: a stray, nobody knows whose it is."""
        self.origin = origin


class Task:
    """All that is known of one task."""

    __slots__ = ("asked", "errors", "floors", "foreign", "key", "killed", "runs", "stuck")

    def __init__(self, key: str) -> None:
        self.key = key
        self.runs: dict[tuple[str, int], Run] = {}
        self.floors: dict[str, int] = {}
        """By process: runs below this number are settled, their records are gone."""
        self.stuck = False
        self.asked: set[tuple[int, int]] = set()
        """(pid, ticks) of what has got SIGTERM: an order may come twice, but a second signal means now to many."""
        self.killed: set[tuple[int, int]] = set()
        """(pid, ticks) of what has got SIGKILL."""
        self.errors: list[str] = []
        """Why processes could not be signalled, each once."""
        self.foreign: dict[int, int] = {}
        """pid -> ticks of processes that do not belong to the task: their environment is read only once."""

    def complain(self, error: str) -> None:
        """Keep an error for the next event of the task."""
        if error and error not in self.errors and len(self.errors) < 8:
            self.errors.append(error)

    def markers(self) -> set[str]:
        """Markers of all runs that are remembered."""
        return {run.marker for run in self.runs.values() if run.marker}

    def rest(self) -> None:
        """Nothing of the task is left: forget what was only of use while it was being ended."""
        self.stuck = False
        self.asked.clear()
        self.killed.clear()
        self.errors.clear()
        self.foreign.clear()
