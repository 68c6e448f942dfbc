"""Where the files of a stack are."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass

SERVICES = ("runner", "health", "reporter")

_LOCK = "lock"

# sockaddr_un.sun_path without its terminating zero; the longest name is the private one of a starting service.
_MAX_SOCKET_PATH = 107
_LONGEST_NAME = ".reporter-admin.4194304.sock"


class LayoutError(Exception):
    """A directory cannot be used; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A stack's directory: DIR/run, DIR/state, DIR/agent, DIR/logs."""

    root: str

    @property
    def run(self) -> str:
        """Sockets of services and agent."""
        return os.path.join(self.root, "run")

    @property
    def agent(self) -> str:
        """The agent's work directory; the sandboxes are in it."""
        return os.path.join(self.root, "agent")

    @property
    def logs(self) -> str:
        """One log file a process of the stack."""
        return os.path.join(self.root, "logs")

    def state(self, service: str) -> str:
        """The service's journals."""
        return os.path.join(self.root, "state", service)

    def log(self, name: str) -> str:
        """The log file of a process of the stack."""
        return os.path.join(self.logs, f"{name}.log")

    def make(self) -> None:
        """Makes the directories.

        Raises:
            LayoutError: the path is too long for a socket, or a directory cannot be made or written to.
        """
        check_socket_dir(self.run)
        try:
            # Executors of other users must get to the sockets, nobody else to the journals.
            for path, mode in ((self.run, 0o755), (self.agent, 0o755), (self.logs, 0o755)):
                os.makedirs(path, mode=mode, exist_ok=True)
            for service in SERVICES:
                os.makedirs(self.state(service), mode=0o700, exist_ok=True)
        except OSError as error:
            raise LayoutError(f"{error.filename}: {error.strerror}") from error

    def lock(self) -> int:
        """Makes this process the only one that runs a stack here; returns the descriptor that holds the lock.

        The services have locks of their own, but a second stack would take the first one's sockets for its own.

        Raises:
            LayoutError: another process is there, or the directory cannot be written to.
        """
        path = os.path.join(self.root, _LOCK)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LayoutError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "?"
            os.close(fd)
            raise LayoutError(f"{self.root}: in use by process {holder}") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def link(self, name: str, target: str) -> str:
        """A short path to a sandbox, DIR/NAME; the sandbox's own path where no link can be made."""
        path = os.path.join(self.root, name)
        try:
            os.symlink(target, path)
        except OSError:
            return target
        return path

    def remove_all_but_sandboxes(self) -> None:
        """Removes sockets, journals and logs; what is already gone is fine."""
        for path in (self.run, os.path.join(self.root, "state"), self.logs):
            shutil.rmtree(path, ignore_errors=True)
        try:
            os.unlink(os.path.join(self.root, _LOCK))
        except OSError:
            # Left over at worst: an empty file.
            return

    def remove(self) -> None:
        """Removes everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def temporary() -> Layout:
    """A new directory for one run. Where TMPDIR is too deep for a socket, /tmp is taken.

    Raises:
        LayoutError: none can be made.
    """
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes an unguessable name in it
        try:
            check_socket_dir(os.path.join(parent, "trivet-12345678", "run"))
        except LayoutError:
            continue
        try:
            root = tempfile.mkdtemp(prefix="trivet-", dir=parent)
        except OSError as error:
            raise LayoutError(f"{parent}: {error.strerror}: give a directory with --dir") from error
        # Tasks may run as other users, and their sandboxes are in here; each sandbox has its own mode.
        os.chmod(root, 0o755)  # noqa: S103
        return Layout(root)
    raise LayoutError("no temporary directory has a path short enough for a unix socket: give one with --dir")


def check_socket_dir(path: str) -> None:
    """Makes sure that every socket of a stack can be bound in `path`.

    Raises:
        LayoutError: the path is too long.
    """
    longest = len(os.fsencode(os.path.join(path, _LONGEST_NAME)))
    if longest > _MAX_SOCKET_PATH:
        room = _MAX_SOCKET_PATH - len(_LONGEST_NAME) - 1
        raise LayoutError(
            f"{path}: too long for unix sockets, which have {_MAX_SOCKET_PATH} bytes for their path: "
            f"{len(os.fsencode(path))} bytes, at most {room}. Use a directory with a shorter path"
        )


def find_services(path: str) -> str:
    """Directory of the sockets of running services: `path` itself, or `path`/run.

    Raises:
        LayoutError: there are none.
    """
    for candidate in (path, os.path.join(path, "run")):
        if os.path.exists(os.path.join(candidate, "runner.sock")):
            return os.path.abspath(candidate)
    raise LayoutError(f"{path}: there is no runner.sock here: start the services with `trivet up --dir DIR`")
