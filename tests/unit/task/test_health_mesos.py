"""`TaskInfo.health_check` and `TaskInfo.check`: what becomes of them, and what is refused with its place."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.task import LoadedTask, load
from services.common.task.checks import (
    CommandTarget,
    Expected,
    HealthCheck,
    HttpTarget,
    Loopback,
    Source,
    StatusCheck,
    TcpTarget,
)
from tests.unit.task.test_health_aurora import info

BARE: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
JOB: dict[str, Any] = {"task": BARE, "role": "r", "cluster": "c", "environment": "e"}
HC, CI = mesos_pb2.HealthCheck, mesos_pb2.CheckInfo


def loaded(
    health: mesos_pb2.HealthCheck | None = None,
    check: mesos_pb2.CheckInfo | None = None,
    document: dict[str, Any] = BARE,
    labels: dict[str, str] | None = None,
    port: int | None = None,
) -> LoadedTask:
    task = info(document) if port is None else info(document, health=port)
    if health is not None:
        task.health_check.CopyFrom(health)
    if check is not None:
        task.check.CopyFrom(check)
    for key, value in (labels or {}).items():
        task.labels.labels.add(key=key, value=value)
    return load(task, hostname="h")


def health(message: mesos_pb2.HealthCheck) -> HealthCheck:
    made = loaded(message).health
    assert made is not None
    return made


def check(message: mesos_pb2.CheckInfo) -> StatusCheck:
    made = loaded(check=message).check
    assert made is not None
    return made


def http(**fields: Any) -> mesos_pb2.HealthCheck:
    return HC(type=HC.HTTP, http=HC.HTTPCheckInfo(**{"port": 80, **fields}))


def command(**fields: Any) -> mesos_pb2.HealthCheck:
    return HC(type=HC.COMMAND, command=mesos_pb2.CommandInfo(**fields))


def test_a_health_check_has_mesos_defaults() -> None:
    assert health(http()) == HealthCheck(
        source=Source.MESOS,
        target=HttpTarget(80, "/", loopback=Loopback.IPV4),
        expected=Expected(((200, 399),)),
        rule="mesos",
        gates=False,
        delay=15,
        interval=10,
        timeout=20,
        grace=10,
        max_failures=2,
        min_successes=1,
    )


def test_a_health_check_is_taken_as_it_is_written() -> None:
    message = http(path="/a b".replace(" ", "+"), scheme="https", statuses=[503, 200, 200])
    message.http.protocol = mesos_pb2.NetworkInfo.IPv6
    message.delay_seconds, message.interval_seconds, message.timeout_seconds = 0, 0.5, 0
    message.grace_period_seconds, message.consecutive_failures = 0.25, 0
    assert health(message) == HealthCheck(
        source=Source.MESOS,
        target=HttpTarget(80, "/a+b", tls=True, loopback=Loopback.IPV6),
        expected=Expected(((200, 200), (503, 503))),
        rule="mesos",
        gates=False,
        delay=0,
        interval=0.5,
        timeout=0,
        grace=0.25,
        max_failures=0,
        min_successes=1,
    )


def test_a_tcp_health_check_and_its_protocol() -> None:
    ipv6 = mesos_pb2.NetworkInfo.IPv6
    assert health(HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=81))).target == TcpTarget(81, Loopback.IPV4)
    assert health(HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=81, protocol=ipv6))).target == TcpTarget(81, Loopback.IPV6)


def test_a_check_is_independent_of_the_health_check() -> None:
    message = CI(type=CI.HTTP, http=CI.Http(port=82, path="/x"), delay_seconds=1, interval_seconds=2, timeout_seconds=3)
    task = loaded(http(), message)
    assert task.health is not None
    assert task.check == StatusCheck(HttpTarget(82, "/x", loopback=Loopback.IPV4), 1, 2, 3)
    assert task.warnings == ()
    alone = loaded(check=CI(type=CI.TCP, tcp=CI.Tcp(port=83)))
    assert alone.health is None
    assert alone.check == StatusCheck(TcpTarget(83, Loopback.IPV4), 15, 10, 20)


@pytest.mark.parametrize(
    ("fields", "argv", "text"),
    [
        ({"value": "exit 1"}, ("/bin/sh", "-c", "exit 1"), "exit 1"),
        ({"value": "p", "shell": False}, ("p",), "p"),
        ({"value": "p", "shell": False, "arguments": ["p", "a b"]}, ("p", "a b"), "p 'a b'"),
    ],
)
def test_a_command_with_and_without_a_shell(fields: dict[str, Any], argv: tuple[str, ...], text: str) -> None:
    assert health(command(**fields)).target == CommandTarget(argv, text=text)
    message = CI(type=CI.COMMAND, command=CI.Command(command=mesos_pb2.CommandInfo(**fields)))
    assert check(message).target == CommandTarget(argv, text=text)


def test_a_program_that_is_to_see_another_name_of_itself_does() -> None:
    script = "cat /proc/$$/cmdline; exit 7"
    target = health(command(value="bash", shell=False, arguments=["my name", "-c", script, "x", "y z"])).target
    assert isinstance(target, CommandTarget)
    assert target.text.startswith("bash -c ")
    env = {"PATH": os.environ["PATH"], "BASH_ENV": "/nonexistent"}
    done = subprocess.run(target.argv, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.split("\0") == ["my name", "-c", script, "x", "y z", ""]
    assert done.returncode == 7
    missing = health(command(value="/no/such", shell=False, arguments=["-x"])).target
    assert isinstance(missing, CommandTarget)
    assert subprocess.run(missing.argv, env=env, capture_output=True, timeout=20, check=False).returncode == 127


def test_the_environment_of_a_command_is_its_own_only() -> None:
    message = command(value="x")
    message.command.environment.variables.add(name="A", value="1")
    message.command.environment.variables.add(name="B", value="")
    message.command.environment.variables.add(name="A", value="2")
    assert health(message).target == CommandTarget(("/bin/sh", "-c", "x"), {"A": "2", "B": ""}, "x")


def test_mesos_texts_are_no_templates() -> None:
    assert health(command(value="{{thermos.ports[x]}}")).target == CommandTarget(
        ("/bin/sh", "-c", "{{thermos.ports[x]}}"), text="{{thermos.ports[x]}}"
    )


@pytest.mark.parametrize(
    ("path", "sent"), [("/a%20b?c=d&e", "/a%20b?c=d&e"), ("/\N{SNOWMAN}#x", "/%E2%98%83"), ("/{a}[b]|", "/{a}[b]|")]
)
def test_a_path_is_sent_as_ascii(path: str, sent: str) -> None:
    target = health(http(path=path)).target
    assert isinstance(target, HttpTarget)
    assert target.path == sent


def test_auroras_health_check_wins() -> None:
    for document in (JOB, BARE | {"health_check_config": {}}):
        task = loaded(http(port=99), document=document, port=80)
        assert task.health is not None
        assert task.health.source is Source.AURORA
        assert task.warnings == ("TaskInfo.health_check: not acted on: the task's own health check wins",)
    task = loaded(http(port=99), document=JOB)
    assert task.health is not None
    assert task.health.source is Source.MESOS
    assert task.aurora


@pytest.mark.parametrize(
    ("value", "gates", "warned"),
    [("true", True, False), ("false", False, False), ("yes", False, True)],
)
def test_a_label_makes_running_wait(value: str, gates: bool, warned: bool) -> None:
    task = loaded(http(), labels={"trivet.health_gated": value})
    assert task.health is not None
    assert task.health.gates is gates
    assert bool(task.warnings) is warned


def test_a_label_without_a_health_check_is_a_warning() -> None:
    task = loaded(labels={"trivet.health_gated": "true"})
    assert task.warnings == (
        'TaskInfo.labels."trivet.health_gated": not acted on: there is no health check to wait for',
    )


def test_what_mesos_ignores_too_is_a_warning() -> None:
    message = command(value="x", user="root", arguments=["y"])
    message.command.uris.add(value="http://x")
    message.http.port = 80
    message.interval_seconds = 0
    message.grace_period_seconds = 1e12
    task = loaded(message)
    assert task.health is not None
    assert (task.health.interval, task.health.grace) == (0.1, 315_360_000)
    place = "TaskInfo.health_check."
    assert task.warnings == (
        f"{place}http: not acted on: the type is COMMAND",
        f"{place}command.user: not acted on: the check runs as the task's processes do",
        f"{place}command.uris: not acted on: the check runs as the task's processes do",
        f"{place}command.arguments: not acted on: `shell` is set",
        f"{place}interval_seconds: 0 s is taken as 0.1 s",
        f"{place}grace_period_seconds: 1e+12 s is taken as 315360000 s",
    )
