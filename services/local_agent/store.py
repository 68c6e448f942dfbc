"""The agent's log in its work directory (Mesos: the meta directory of the agent)."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from services.common.journal import Journal
from services.local_agent.core import records, snapshot
from services.local_agent.core.evolve import apply
from services.local_agent.core.model import AgentState

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable


# The log is not rewritten before it has this many bytes, nor before it is this many times as long as it must be.
COMPACT_BYTES = 1 << 20
COMPACT_FACTOR = 4


class WorkDirInUse(Exception):
    """Another agent works there."""


class Store:
    """Records in, state out. One process a work directory."""

    def __init__(self, work_dir: str) -> None:
        """Makes the directory where needed and locks it.

        Raises:
            WorkDirInUse: Another process holds the lock.
            OSError: The directory cannot be used.
        """
        self._meta = os.path.join(work_dir, "meta")
        os.makedirs(self._meta, mode=0o700, exist_ok=True)
        self._lock = os.open(os.path.join(self._meta, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "?"
            os.close(self._lock)
            raise WorkDirInUse(f"--work-dir: {work_dir} is in use by process {holder}") from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self._journal: Journal | None = None
        # Size at which the log is worth rewriting.
        self._due = COMPACT_BYTES

    def load(self) -> AgentState:
        """The state that the log gives.

        Raises:
            JournalCorrupt: The log is damaged.
            RecordError: The log is of another version.
            OSError: It cannot be read or made.
        """
        path = os.path.join(self._meta, "agent.log")
        state = AgentState()
        if not os.path.exists(path):
            self._journal = Journal.create(path)
            return state
        self._journal, payloads = Journal.open(path)
        for payload in payloads:
            apply(state, records.decode(payload))
        if payloads:
            # The shortest log of this state may be long in itself.
            self._set_due(sum(len(records.encode(record)) for record in snapshot.records_of(state)))
        return state

    def append(self, new: Iterable[records.Record]) -> None:
        """Writes records; they are in the kernel when this returns.

        Raises:
            JournalUnavailable: Nothing was written.
        """
        if self._journal is None:
            raise RuntimeError("load first")
        self._journal.append_all(map(records.encode, new))

    def compact_if_due(self, state: AgentState) -> None:
        """Rewrites a log that has become much longer than `state` needs.

        Raises:
            JournalUnavailable: The long log stands; the next try comes when it has grown by as much again.
        """
        if self._journal is None or self._journal.size < self._due:
            return
        self._set_due(self._journal.size)
        self._journal.rewrite(map(records.encode, snapshot.records_of(state)))
        self._set_due(self._journal.size)

    def _set_due(self, size: int) -> None:
        self._due = max(COMPACT_BYTES, COMPACT_FACTOR * size)

    def close(self) -> None:
        """Closes the log and releases the lock."""
        if self._journal is not None:
            self._journal.close()
        os.close(self._lock)


def boot_id() -> str:
    """Identity of this boot of the host: pids of another one mean nothing."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def new_agent_id(unique: uuid.UUID) -> str:
    """As Mesos' master makes them."""
    return f"{unique}-S0"


def sandbox_path(work_dir: str, *, agent_id: str, framework_id: str, executor_id: str, container_id: str) -> str:
    """Mesos: paths of sandboxes."""
    return os.path.join(
        work_dir, "slaves", agent_id, "frameworks", framework_id, "executors", executor_id, "runs", container_id
    )
