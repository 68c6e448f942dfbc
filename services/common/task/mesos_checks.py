"""Mesos' own checks: `TaskInfo.health_check` leads to a verdict, `TaskInfo.check` is only told (Mesos: checks library).

Their texts are taken as they are: templates are Thermos', and stand in the task's data alone.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from mesos.v1 import mesos_pb2
from services.common.task.checks import (
    SHELLS,
    SHORTEST_INTERVAL,
    CommandTarget,
    Expected,
    HealthCheck,
    HttpTarget,
    Loopback,
    Source,
    StatusCheck,
    Target,
    TcpTarget,
)
from services.common.task.findings import Findings, at, quoted
from services.common.task.values import (
    MAX_PATH_BYTES,
    MAX_SECONDS,
    check_argument,
    check_port,
    check_size,
    check_variable,
)

GATE_LABEL = "trivet.health_gated"
"""Label of a TaskInfo: with `true`, RUNNING waits for the first success of its health check."""

# Mesos: what curl's answer must be.
_SUCCESS = ((200, 399),)
# The first argument that a program sees may differ from the file that is executed (Mesos: execvp(value, arguments)),
# but not in a probe's argv. `-p`: no profile is read by this shell.
_EXEC = ("/bin/bash", "-pc", 'exec -a "$1" -- "$0" "${@:2}"')
_PATH = re.compile(r"/[^\0-\x20\x7f]*")
_TYPES = ("COMMAND", "HTTP", "TCP")


class _Times(NamedTuple):
    delay: float
    interval: float
    timeout: float


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one of the two messages. `path`: its place."""

    message: Any
    path: str
    findings: Findings

    def target(self) -> Target | None:
        """What is probed; None: it is violated."""
        kind = self._kind()
        if kind is None:
            return None
        for other in _TYPES:
            if other != kind and self.message.HasField(other.lower()):
                self.findings.warning(at(self.path, other.lower()), f"not acted on: the type is {kind}")
        part = getattr(self.message, kind.lower())
        place = at(self.path, kind.lower())
        if kind == "HTTP":
            return self._http(part, place)
        if kind == "TCP":
            check_port(part.port, at(place, "port"), self.findings)
            return TcpTarget(part.port, _loopback(part))
        if isinstance(part, mesos_pb2.CheckInfo.Command):
            return self._command(part.command, at(place, "command"))
        return self._command(part, place)

    def _kind(self) -> str | None:
        known = {getattr(type(self.message), name): name for name in _TYPES}
        kind = known.get(self.message.type) if self.message.HasField("type") else None
        if kind is None:
            self.findings.violation(at(self.path, "type"), f"is required, one of {', '.join(_TYPES)}")
            return None
        if not self.message.HasField(kind.lower()):
            self.findings.violation(at(self.path, kind.lower()), f"is required: the type is {kind}")
            return None
        return kind

    def _http(self, http: Any, place: str) -> HttpTarget:
        check_port(http.port, at(place, "port"), self.findings)
        path = http.path or "/"
        if not _PATH.fullmatch(path):
            self.findings.violation(at(place, "path"), "must start with a slash and have no blanks")
        path = quote(path.partition("#")[0], safe="".join(map(chr, range(0x21, 0x7F))))
        if len(path) > MAX_PATH_BYTES:
            self.findings.violation(at(place, "path"), f"must not be longer than {MAX_PATH_BYTES} bytes")
        tls = False
        # CheckInfo knows neither scheme nor protocol.
        if isinstance(http, mesos_pb2.HealthCheck.HTTPCheckInfo) and http.HasField("scheme"):
            tls = http.scheme == "https"
            if http.scheme not in ("http", "https"):
                self.findings.violation(at(place, "scheme"), f"must be http or https, is {quoted(http.scheme)}")
        return HttpTarget(http.port, path, tls, loopback=_loopback(http))

    def _command(self, command: mesos_pb2.CommandInfo, place: str) -> CommandTarget:
        # Mesos ignores them as well.
        for name in ("user", "uris"):
            if getattr(command, name):
                self.findings.warning(at(place, name), "not acted on: the check runs as the task's processes do")
        env = self._environment(command.environment, at(place, "environment"))
        if not command.value:
            what = "command" if command.shell else "program"
            self.findings.violation(at(place, "value"), f"is required: it is the {what}")
            return CommandTarget(("",))
        check_argument(command.value, at(place, "value"), self.findings)
        arguments = tuple(command.arguments)
        if command.shell:
            if arguments:
                self.findings.warning(at(place, "arguments"), "not acted on: `shell` is set")
            return CommandTarget((SHELLS[1], "-c", command.value), env, command.value)
        if not arguments:
            return CommandTarget((command.value,), env, command.value)
        for index, argument in enumerate(arguments):
            check_argument(argument, at(place, "arguments", index), self.findings)
        check_size(arguments, at(place, "arguments"), self.findings)
        text = shlex.join((command.value, *arguments[1:]))
        argv = arguments if arguments[0] == command.value else (*_EXEC, command.value, *arguments)
        return CommandTarget(argv, env, text)

    def _environment(self, environment: mesos_pb2.Environment, place: str) -> dict[str, str]:
        env: dict[str, str] = {}
        for index, variable in enumerate(environment.variables):
            where = at(place, "variables", index)
            if variable.type != mesos_pb2.Environment.Variable.VALUE or variable.HasField("secret"):
                self.findings.violation(
                    where, f"{quoted(variable.name)} must be a value: nothing else is resolved here"
                )
            elif not variable.HasField("value"):
                self.findings.violation(at(where, "value"), "is required")
            else:
                check_variable(variable.name, variable.value, where, self.findings)
                env[variable.name] = variable.value
        check_size([f"{name}={value}" for name, value in env.items()], place, self.findings)
        return env

    def times(self) -> _Times:
        """Delay, interval, timeout."""
        interval = self.seconds("interval_seconds")
        place = at(self.path, "interval_seconds")
        if interval < SHORTEST_INTERVAL and not self.findings.violated(place):
            self.findings.warning(place, f"{interval:g} s is taken as {SHORTEST_INTERVAL} s")
        return _Times(self.seconds("delay_seconds"), max(interval, SHORTEST_INTERVAL), self.seconds("timeout_seconds"))

    def seconds(self, name: str) -> float:
        """A time; 0 when it is violated."""
        value: float = getattr(self.message, name)
        place = at(self.path, name)
        if not math.isfinite(value):
            self.findings.violation(place, "must be a finite number")
        elif value < 0:
            self.findings.violation(place, f"must not be negative, is {value}")
        elif value > MAX_SECONDS:
            self.findings.warning(place, f"{value:g} s is taken as {MAX_SECONDS} s")
            return float(MAX_SECONDS)
        else:
            return value
        return 0.0


def mesos_health(info: mesos_pb2.TaskInfo, findings: Findings) -> HealthCheck | None:
    """What `TaskInfo.health_check` says; None: nothing, or it is violated."""
    if not info.HasField("health_check"):
        return None
    reader = _Reader(info.health_check, "TaskInfo.health_check", findings)
    target, times = reader.target(), reader.times()
    grace = reader.seconds("grace_period_seconds")
    statuses = _statuses(info.health_check, at(reader.path, "http", "statuses"), findings)
    gates = _gated(info, findings)
    if target is None:
        return None
    return HealthCheck(
        source=Source.MESOS,
        target=target,
        expected=Expected(statuses) if isinstance(target, HttpTarget) else Expected(),
        rule="mesos",
        gates=gates,
        delay=times.delay,
        interval=times.interval,
        timeout=times.timeout,
        grace=grace,
        max_failures=max(info.health_check.consecutive_failures, 1) - 1,
        min_successes=1,
    )


def mesos_check(info: mesos_pb2.TaskInfo, findings: Findings) -> StatusCheck | None:
    """What `TaskInfo.check` says; None: nothing, or it is violated."""
    if not info.HasField("check"):
        return None
    reader = _Reader(info.check, "TaskInfo.check", findings)
    target, times = reader.target(), reader.times()
    return None if target is None else StatusCheck(target, *times)


def _statuses(check: mesos_pb2.HealthCheck, path: str, findings: Findings) -> tuple[tuple[int, int], ...]:
    # The built-in executors ignore them; an executor may look at them.
    for index, status in enumerate(check.http.statuses):
        if not 100 <= status <= 999:
            findings.violation(at(path, index), f"must be from 100 to 999, is {status}")
    return tuple((status, status) for status in sorted(set(check.http.statuses))) or _SUCCESS


def _gated(info: mesos_pb2.TaskInfo, findings: Findings) -> bool:
    values = [label.value for label in info.labels.labels if label.key == GATE_LABEL]
    for value in values:
        if value not in ("true", "false"):
            text = f"must be true or false, {quoted(value)} is taken as false"
            findings.warning(at("TaskInfo.labels", GATE_LABEL), text)
    return "true" in values


def _loopback(part: Any) -> Loopback:
    protocol = getattr(part, "protocol", mesos_pb2.NetworkInfo.IPv4)
    return Loopback.IPV6 if protocol == mesos_pb2.NetworkInfo.IPv6 else Loopback.IPV4
