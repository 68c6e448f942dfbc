"""The agent's run directory: its control socket and its description, for one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.common.server import PublicSocket

DESCRIPTION = "agent.json"


class RunDirInUse(Exception):
    """Another agent listens there."""


class RunDir:
    """What callers find an agent by. One process a run directory; what it removes is its own."""

    def __init__(self, path: str) -> None:
        """Makes the directory where needed and locks it.

        Raises:
            RunDirInUse: Another process holds the lock.
            OSError: The directory cannot be used.
        """
        self.path = path
        self.description = os.path.join(path, DESCRIPTION)
        # What this process has put there.
        self._own: dict[str, tuple[int, int, int]] = {}
        os.makedirs(path, mode=0o755, exist_ok=True)
        self._lock = os.open(os.path.join(path, "agent.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "?"
            os.close(self._lock)
            raise RunDirInUse(f"--run-dir: {path} is in use by process {holder}") from error
        except OSError:
            os.close(self._lock)
            raise

    def describe(self, value: Mapping[str, Any]) -> None:
        """Writes agent.json, whole or not at all.

        Raises:
            OSError: It cannot be written; names the file.
        """
        temporary = f"{self.description}.{os.getpid()}"
        try:
            with open(temporary, "w") as file:
                json.dump(value, file, indent=1)
            self._own[self.description] = _identity(temporary)
            os.rename(temporary, self.description)
        except OSError as error:
            _remove(temporary)
            raise OSError(error.errno, error.strerror, temporary) from error

    def publish(self, socket: PublicSocket) -> None:
        """Lets callers in.

        Raises:
            OSError: The socket's public name cannot be taken.
        """
        self._own[socket.public] = _identity(socket.private)
        socket.publish()

    def hide(self) -> None:
        """Callers that look for the agent by its description find nothing."""
        self._remove_own(self.description)

    def close(self) -> None:
        """Removes what this process has put there, and lets the next one in. Once."""
        for path in list(self._own):
            self._remove_own(path)
        os.close(self._lock)

    def _remove_own(self, path: str) -> None:
        own = self._own.pop(path, None)
        try:
            if own == _identity(path):
                os.unlink(path)
        except FileNotFoundError:
            # Somebody tidied up first.
            return


def _identity(path: str) -> tuple[int, int, int]:
    status = os.lstat(path)
    # An inode's number is given away again at once.
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        # It could not even be made.
        return
