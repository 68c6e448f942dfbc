"""A container's cgroups: what both versions have in common."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from services.local_agent.containers.process_tree import KILL_SECS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.local_agent.containers.cgroups.limits import Limits, MemoryUse
    from services.local_agent.containers.contract import Watch

_LOG = logging.getLogger(__name__)
# Waited for at a time: as many descriptors are open.
_BATCH = 256
# A cgroup is busy for a moment after its last process has gone; version 1 tells nobody when that is over.
_BUSY_MSECS = 2


class Group(ABC):
    """The cgroups of one container. Everything blocks, for milliseconds; `destroy` for `KILL_SECS` at most."""

    # Directories, the one that destroy is done by first.
    directories: Sequence[str]
    # What `open_oom` gives wakes up at nothing else: a word before the deed, which `ooms` does not count yet.
    wakes_at_oom_only = False

    @abstractmethod
    def set_limits(self, limits: Limits, *, first: bool) -> None:
        """Writes limits. Memory is never lowered afterwards, which might kill (Mesos: cgroups/mem). Raises OSError."""

    @abstractmethod
    def freeze(self, *, frozen: bool) -> None:
        """Stops all processes, or lets them go on. Raises OSError."""

    @abstractmethod
    def open_oom(self) -> Watch | None:
        """Wakes up at an OOM; the caller closes it. None: memory is not under control. Raises OSError."""

    @abstractmethod
    def ooms(self) -> int:
        """How often there was an OOM so far."""

    @abstractmethod
    def memory_use(self) -> MemoryUse:
        """What it may use and has used. Raises OSError."""

    def create(self) -> None:
        """Makes the directories. Raises OSError."""
        for directory in self.directories:
            os.makedirs(directory, exist_ok=True)

    def exists(self) -> bool:
        """Whether any of the directories is there."""
        return any(os.path.isdir(directory) for directory in self.directories)

    def procs_files(self) -> list[str]:
        """Where a process enters."""
        return [os.path.join(directory, "cgroup.procs") for directory in self.directories]

    def pids(self) -> set[int]:
        """All processes, in cgroups that they have made themselves, too."""
        found: set[int] = set()
        for directory in self.directories:
            for path in tree(directory):
                found.update(_read_pids(os.path.join(path, "cgroup.procs")))
        return found

    @abstractmethod
    def kill_at_once(self) -> None:
        """SIGKILL by the kernel, where it can do that for a whole cgroup."""

    def destroy(self) -> set[int]:
        """SIGKILL to all processes; returns their pids when they have ended, or `KILL_SECS` have passed.

        A frozen process forks no more, and neither does one with a pending SIGKILL: so the rounds come to an end with
        a fork bomb, too.
        """
        deadline = time.monotonic() + KILL_SECS
        killed: set[int] = set()
        while (living := self.pids()) and time.monotonic() < deadline:
            killed |= living
            self.kill_at_once()
            self.freeze(frozen=True)
            marked: set[int] = set()
            while (fresh := self.pids() - marked) and time.monotonic() < deadline:
                for pid in fresh:
                    _kill(pid)
                marked |= fresh
            killed |= marked
            # Version 1 keeps even the killed in the freezer.
            self.freeze(frozen=False)
            _wait(sorted(living | marked)[:_BATCH], deadline)
        left = self.pids()
        if left:
            _LOG.error(
                "processes survive SIGKILL",
                extra={"fields": {"cgroup": self.directories[0], "pids": sorted(left)[:20]}},
            )
        return killed

    def remove(self) -> bool:
        """Removes the directories; False: there are processes in them."""
        deadline = time.monotonic() + KILL_SECS
        done = True
        for directory in self.directories:
            for path in reversed(list(tree(directory))):
                done = _remove(path, deadline) and done
        return done


def read(path: str) -> str:
    """The text of a control file. Raises OSError."""
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def write(path: str, value: str) -> None:
    """Writes a control file in one piece. Raises OSError that names the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def counter(text: str, name: str) -> int:
    """The value of `name` in lines of `name value`; 0 when it is not there."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def tree(directory: str) -> Iterator[str]:
    """The directory and all below it, parents first; nothing when it is gone."""
    for path, _, _ in os.walk(directory):
        yield path


def _read_pids(path: str) -> list[int]:
    try:
        return [int(line) for line in read(path).split()]
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno == errno.ENODEV:
            # Removed while it was open.
            return []
        raise


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        # It ended between the list and now.
        return


def _wait(pids: Sequence[int], deadline: float) -> None:
    poll = select.poll()
    descriptors = []
    for pid in pids:
        try:
            descriptors.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    waiting = set(descriptors)
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    while waiting:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            break
        for descriptor, _ in ended:
            poll.unregister(descriptor)
            waiting.discard(descriptor)
    for descriptor in descriptors:
        os.close(descriptor)


def _remove(path: str, deadline: float) -> bool:
    while True:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if _read_pids(os.path.join(path, "cgroup.procs")) or time.monotonic() > deadline:
                return False
            select.poll().poll(_BUSY_MSECS)
        else:
            return True
