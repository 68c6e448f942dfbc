"""What launchers take and give, and whom they talk to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesos.v1 import mesos_pb2


class LaunchFailed(Exception):
    """There is no sandbox or no process; the text says why, without arguments and environment."""


class LauncherUnavailable(Exception):
    """This machine does not allow what the flags ask for; the text says what is missing and what to do."""


@dataclass(frozen=True)
class User:
    """Whom the executor runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Command:
    """What to execute: `executable` is searched in PATH of `environment` when it has no slash.

    `user` None: the agent's own.
    """

    executable: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    user: User | None = None


@dataclass(frozen=True)
class Forked:
    """The container's first process. `start_ticks`: field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class Limitation:
    """A limit that the container has exceeded (Mesos: ContainerLimitation). `resources`: what it used."""

    message: str
    resources: tuple[mesos_pb2.Resource, ...]


class Reports(Protocol):
    """Who is told what happens to containers, in the event loop."""

    def container_exited(self, container_id: str, code: int | None, number: int | None) -> None:
        """All is over. Exit code, signal; None: not known, or not so."""

    def container_limited(self, container_id: str, limitation: Limitation) -> None:
        """A limit was exceeded: the container is to be destroyed."""

    def launcher_failed(self, why: str) -> None:
        """An error of this program: what becomes of a container is not known."""


class Watch(Protocol):
    """A descriptor that wakes up when a container has exceeded a limit."""

    def fileno(self) -> int:
        """To be read from."""

    def drain(self) -> bool:
        """It has been noticed. False: it had not woken up."""

    def close(self) -> None:
        """Lets go of it."""


class Child(Protocol):
    """A process that waits, or need not wait, for the word to become the executor."""

    @property
    def forked(self) -> Forked:
        """Who it is."""

    def go(self) -> None:
        """Returns when the executor's program runs. Blocks.

        Raises:
            LaunchFailed: It cannot be executed.
        """

    def close(self) -> None:
        """Lets go of it; a process that still waits for `go` ends."""
