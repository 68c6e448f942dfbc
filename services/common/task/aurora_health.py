"""Aurora's health check: `health_check_config`, or what a job has without one (Aurora: provider of health checks).

Beyond Aurora: ports by any name or number, https, status ranges, headers, TCP, commands without a shell.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from services.common.task.checks import (
    SHELLS,
    SHORTEST_INTERVAL,
    CommandTarget,
    Expected,
    HealthCheck,
    HttpTarget,
    Loopback,
    Source,
    Target,
    TcpTarget,
)
from services.common.task.findings import Findings, at, quoted
from services.common.task.values import (
    check_argv,
    check_command,
    check_endpoint,
    check_headers,
    check_port,
    check_variables,
    not_negative,
    one_of,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trivet.task.v1 import task_pb2

HEALTH_PORT = "health"
"""Name of the port that HTTP checks probe unless they name another one. Aurora fixes it."""

RULES = {"time": "aurora-time", "attempts": "aurora-attempts"}
"""`health_check_config.rule` -> name of the verdict rule."""

MAX_RESPONSE_BYTES = 1 << 16
"""Longest expected response: a probe has to read that much."""

_PATH = "health_check_config"
_PROTOCOLS = {"IPv4": Loopback.IPV4, "IPv6": Loopback.IPV6}
_NUMBER = re.compile(r"-?[0-9]{1,40}")
_STATUSES = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")
_FIRST_STATUS = 100
_MAX_NAMED = 20


def check_health(config: task_pb2.HealthCheckConfig, path: str, findings: Findings) -> None:
    """Checks every rule that needs no ports."""
    _check_checker(config.health_checker, at(path, "health_checker"), findings)
    not_negative(config, ("max_consecutive_failures", "min_consecutive_successes"), path, findings)
    if config.timeout_secs <= 0:
        findings.violation(at(path, "timeout_secs"), f"must be more than 0 s, is {config.timeout_secs}")
    seconds(config, ("initial_interval_secs", "interval_secs", "timeout_secs"), path, findings)
    if config.HasField("rule"):
        one_of(config.rule, tuple(RULES), at(path, "rule"), findings)


def _check_checker(checker: task_pb2.HealthCheckerConfig, path: str, findings: Findings) -> None:
    given = [name for name in ("http", "tcp", "command") if checker.HasField(name)]
    if checker.HasField("shell"):
        shell = checker.shell
        place = at(path, "shell", "shell_command")
        check_command(shell.shell_command if shell.HasField("shell_command") else None, place, findings)
        # Aurora's own client sends its defaults for `http` beside it.
        for name in given:
            if name != "http":
                findings.warning(at(path, name), "not acted on: `shell` wins")
    elif len(given) > 1:
        findings.violation(path, f"must have only one of {', '.join(given)}")
    _check_http(checker.http, at(path, "http"), findings)
    if checker.HasField("tcp") and checker.tcp.HasField("protocol"):
        one_of(checker.tcp.protocol, tuple(_PROTOCOLS), at(path, "tcp", "protocol"), findings)
    if checker.HasField("command"):
        check_argv(checker.command.argv, at(path, "command", "argv"), findings)
        check_variables(checker.command.environment, at(path, "command", "environment"), findings)


def _check_http(http: task_pb2.HttpHealthChecker, path: str, findings: Findings) -> None:
    check_endpoint(http.endpoint, at(path, "endpoint"), findings)
    length = len(http.expected_response.encode())
    if length > MAX_RESPONSE_BYTES:
        text = f"must not be longer than {MAX_RESPONSE_BYTES} bytes, has {length}"
        findings.violation(at(path, "expected_response"), text)
    code = http.expected_response_code
    if not 0 <= code <= 999:
        findings.violation(at(path, "expected_response_code"), f"must be from 0 to 999, is {code}")
    elif code and http.expected_response_codes:
        findings.violation(at(path, "expected_response_codes"), "must not stand beside expected_response_code")
    for index, text in enumerate(http.expected_response_codes):
        if _range(text) is None:
            place = at(path, "expected_response_codes", index)
            wanted = 'must be a status from 100 to 999 or a range such as "200-299"'
            findings.violation(place, f"{wanted}, is {quoted(text)}")
    one_of(http.scheme, ("http", "https"), at(path, "scheme"), findings)
    if http.HasField("protocol"):
        one_of(http.protocol, tuple(_PROTOCOLS), at(path, "protocol"), findings)
    check_headers(http.headers, at(path, "headers"), findings)


def _range(text: str) -> tuple[int, int] | None:
    match = _STATUSES.fullmatch(text)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return (first, last) if _FIRST_STATUS <= first <= last else None


def aurora_check(
    task: task_pb2.Task, ports: Mapping[str, int], findings: Findings, *, by_default: bool
) -> HealthCheck | None:
    """The health check of a task whose templates are resolved; None: it has none, or it is violated.

    Args:
        task: As it was written, checked by `check_health`.
        ports: All named ports.
        findings: Takes unknown ports, and warnings.
        by_default: A task that does not say has the defaults (Aurora: jobs have).
    """
    given = task.HasField(_PATH)
    if not given and not by_default:
        return None
    config = task.health_check_config
    made = _target(config.health_checker, ports, findings, given=given)
    if made is None:
        return None
    if config.min_consecutive_successes == 0:
        findings.warning(at(_PATH, "min_consecutive_successes"), "0 is taken as 1")
    if 0 <= config.interval_secs < SHORTEST_INTERVAL:
        text = f"{config.interval_secs:g} s is taken as {SHORTEST_INTERVAL} s"
        findings.warning(at(_PATH, "interval_secs"), text)
    target, expected = made
    interval = max(config.interval_secs, SHORTEST_INTERVAL)
    return HealthCheck(
        source=Source.AURORA,
        target=target,
        expected=expected,
        rule=RULES.get(config.rule),
        gates=True,
        delay=0.0,
        interval=interval,
        timeout=config.timeout_secs,
        grace=2 * interval if config.initial_interval_null else config.initial_interval_secs,
        max_failures=config.max_consecutive_failures,
        min_successes=max(config.min_consecutive_successes, 1),
    )


def _target(
    checker: task_pb2.HealthCheckerConfig, ports: Mapping[str, int], findings: Findings, *, given: bool
) -> tuple[Target, Expected] | None:
    path = at(_PATH, "health_checker")
    if checker.HasField("shell"):
        command = checker.shell.shell_command
        return CommandTarget((SHELLS[0], "-c", command), text=command), Expected()
    if checker.HasField("command"):
        argv = tuple(checker.command.argv)
        return CommandTarget(argv, dict(checker.command.environment), shlex.join(argv)), Expected()
    if checker.HasField("tcp"):
        port = _port(checker.tcp.port, ports, at(path, "tcp", "port"), findings)
        return None if port is None else (TcpTarget(port, _loopback(checker.tcp.protocol)), Expected())
    http = checker.http
    if not http.HasField("port") and HEALTH_PORT not in ports:
        if given:
            findings.warning(_PATH, f"no port is named `{HEALTH_PORT}`: there is no health check")
        return None
    port = _port(http.port, ports, at(path, "http", "port"), findings)
    if port is None:
        return None
    target = HttpTarget(
        port=port,
        # What is behind a # is for browsers, and is never sent.
        path=http.endpoint.partition("#")[0],
        tls=http.scheme == "https",
        headers=dict(http.headers),
        loopback=_loopback(http.protocol),
    )
    expected = Expected(_ranges(http), http.expected_response)
    if not expected.statuses and not expected.body.strip():
        findings.warning(at(path, "http"), "any answer is healthy, whatever its status")
    return target, expected


def _ranges(http: task_pb2.HttpHealthChecker) -> tuple[tuple[int, int], ...]:
    if http.expected_response_code:
        return ((http.expected_response_code, http.expected_response_code),)
    ranges = (_range(text) for text in http.expected_response_codes)
    return tuple(sorted(found for found in ranges if found is not None))


def _loopback(protocol: str) -> Loopback:
    return _PROTOCOLS.get(protocol, Loopback.EITHER)


def _port(text: str, ports: Mapping[str, int], path: str, findings: Findings) -> int | None:
    if _NUMBER.fullmatch(text):
        check_port(int(text), path, findings)
        return int(text)
    if text in ports:
        return ports[text]
    findings.violation(path, f"no port is named {quoted(text)}{_known(sorted(ports))}")
    return None


def _known(names: Sequence[str]) -> str:
    if not names:
        return ": the task has no named ports"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"; there are {', '.join(map(quoted, names[:_MAX_NAMED]))}{more}"


def port_of(task: task_pb2.Task) -> str:
    """Port that the health check which the task brings needs: name, number or template; empty: none."""
    checker = task.health_check_config.health_checker
    if not task.HasField(_PATH) or checker.HasField("shell") or checker.HasField("command"):
        return ""
    return checker.tcp.port if checker.HasField("tcp") else checker.http.port
