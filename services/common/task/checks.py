"""The checks of a task, whoever configured them: what is probed, how often, and what is expected.

Aurora's `health_check_config` and Mesos' `TaskInfo.health_check` lead to a verdict, Mesos' `TaskInfo.check` is only
told.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.common.task.findings import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping


SHORTEST_INTERVAL = 0.1
"""Seconds. A check that is due again at once would keep the container busy with nothing else."""

SHELLS = ("/bin/bash", "/bin/sh")
"""Aurora's shell, Mesos' shell."""


class Source(enum.Enum):
    """Who configured a check: it decides which rules there are, and how a task ends that is unhealthy."""

    AURORA = "aurora"
    """Ends FAILED."""
    MESOS = "mesos"
    """Ends KILLED."""


class Loopback(enum.Enum):
    """Where in the container a server listens."""

    EITHER = "either"
    """127.0.0.1, and ::1 when that refuses (`localhost`)."""
    IPV4 = "ipv4"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """GET on the task's loopback."""

    port: int
    path: str
    tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    loopback: Loopback = Loopback.EITHER


@dataclass(frozen=True, slots=True)
class TcpTarget:
    """A connection to the task's loopback."""

    port: int
    loopback: Loopback = Loopback.EITHER


@dataclass(frozen=True, slots=True)
class CommandTarget:
    """A command that is run in the container. `user` is left to who runs it: that of the task's processes.

    `argv`: with the shell, where the configuration asks for one. `env`: on top of that of the task's processes.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """The command as it was written, for people."""


Target = HttpTarget | TcpTarget | CommandTarget

_HOSTS = {Loopback.EITHER: "localhost", Loopback.IPV4: "127.0.0.1", Loopback.IPV6: "[::1]"}


def type_of(target: Target) -> str:
    """What a target is probed with: `http`, `https`, `tcp` or `command`."""
    match target:
        case HttpTarget():
            return "https" if target.tls else "http"
        case TcpTarget():
            return "tcp"
        case CommandTarget():
            return "command"


def describe(target: Target, port: str = "") -> str:
    """One line for people. No values of headers and environment: they may be secret.

    Args:
        target: What is probed.
        port: Stands for the port's number.
    """
    match target:
        case HttpTarget():
            where = f"{_HOSTS[target.loopback]}:{port or target.port}"
            return f"GET {type_of(target)}://{where}{target.path}"
        case TcpTarget():
            return f"connect to {_HOSTS[target.loopback]}:{port or target.port}"
        case CommandTarget():
            shell = target.argv[0] in SHELLS and target.argv[1:2] == ("-c",)
            kind = "shell command" if shell else "command"
            return f"{kind} {quoted(target.text)}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What an HTTP answer must be. `statuses`: ranges, both ends included; empty: any status."""

    statuses: tuple[tuple[int, int], ...] = ()
    body: str = ""
    """Compared after trimming and lower-casing (Aurora); empty: any body. That of an error status counts as empty."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A check that leads to a verdict. Times in seconds."""

    source: Source
    target: Target
    expected: Expected
    rule: str | None
    """Name of the verdict rule of services/health; None: the service's default for Aurora."""
    gates: bool
    """RUNNING waits for it."""
    delay: float
    """From the task's start to the first probe."""
    interval: float
    """From the end of a probe to the start of the next one."""
    timeout: float
    """0: none."""
    grace: float
    """Aurora: the initial interval; Mesos: the grace period."""
    max_failures: int
    """One more than these in a row end the task."""
    min_successes: int


@dataclass(frozen=True, slots=True)
class StatusCheck:
    """A check whose results are only told (Mesos: CheckInfo). Times in seconds."""

    target: Target
    delay: float
    interval: float
    timeout: float
    """0: none."""
