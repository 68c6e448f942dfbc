"""Mesos' own checks that are refused, with their places."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.common.task import HealthCheck, InvalidTask
from services.common.task.checks import CommandTarget, describe
from tests.unit.task.test_health_mesos import CI, HC, command, health, http, loaded


def refusals(health: mesos_pb2.HealthCheck | None = None, check: mesos_pb2.CheckInfo | None = None) -> list[str]:
    with pytest.raises(InvalidTask) as caught:
        loaded(health, check)
    return caught.value.violations


def secret(**fields: Any) -> mesos_pb2.HealthCheck:
    message = command(value="x")
    message.command.environment.variables.add(name="PASSWORD", **fields)
    return message


VARIABLE = mesos_pb2.Environment.Variable
NOT_RESOLVED = 'command.environment.variables[0]: "PASSWORD" must be a value: nothing else is resolved here'


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        (HC(http=HC.HTTPCheckInfo(port=80)), "type: is required, one of COMMAND, HTTP, TCP"),
        (HC(type=HC.UNKNOWN), "type: is required, one of COMMAND, HTTP, TCP"),
        (HC(type=HC.HTTP), "http: is required: the type is HTTP"),
        (HC(type=HC.TCP, http=HC.HTTPCheckInfo(port=80)), "tcp: is required: the type is TCP"),
        (HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=0)), "tcp.port: must be from 1 to 65535, is 0"),
        (http(port=65536), "http.port: must be from 1 to 65535, is 65536"),
        (http(path="x"), "http.path: must start with a slash and have no blanks"),
        (http(path="/ HTTP/1.1\r\nX: y"), "http.path: must start with a slash and have no blanks"),
        (http(path="/" + "\N{SNOWMAN}" * 1000), "http.path: must not be longer than 8192 bytes"),
        (http(scheme="HTTP"), 'http.scheme: must be http or https, is "HTTP"'),
        (http(statuses=[200, 99]), "http.statuses[1]: must be from 100 to 999, is 99"),
        (command(), "command.value: is required: it is the command"),
        (command(shell=False, arguments=["x"]), "command.value: is required: it is the program"),
        (command(value="\0"), "command.value: must not contain NUL"),
        (command(value="x", shell=False, arguments=["x", "\0"]), "command.arguments[1]: must not contain NUL"),
        (secret(type=VARIABLE.SECRET), NOT_RESOLVED),
        (secret(type=VARIABLE.UNKNOWN, value="hunter2"), NOT_RESOLVED),
        (secret(value="hunter2", secret=mesos_pb2.Secret()), NOT_RESOLVED),
        (secret(), "command.environment.variables[0].value: is required"),
        (secret(value="hunter2\0"), "command.environment.variables[0]: must not contain NUL"),
        (
            HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=1), delay_seconds=-1),
            "delay_seconds: must not be negative, is -1.0",
        ),
        (
            HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=1), timeout_seconds=math.inf),
            "timeout_seconds: must be a finite number",
        ),
        (
            HC(type=HC.TCP, tcp=HC.TCPCheckInfo(port=1), grace_period_seconds=math.nan),
            "grace_period_seconds: must be a finite number",
        ),
    ],
)
def test_what_is_refused_names_its_place(message: mesos_pb2.HealthCheck, violation: str) -> None:
    assert refusals(message) == [f"TaskInfo.health_check.{violation}"]


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        (CI(), "type: is required, one of COMMAND, HTTP, TCP"),
        (CI(type=CI.COMMAND), "command: is required: the type is COMMAND"),
        (
            CI(type=CI.COMMAND, command=CI.Command(command=mesos_pb2.CommandInfo())),
            "command.command.value: is required: it is the command",
        ),
        (CI(type=CI.HTTP, http=CI.Http(port=0)), "http.port: must be from 1 to 65535, is 0"),
        (
            CI(type=CI.TCP, tcp=CI.Tcp(port=1), interval_seconds=-0.5),
            "interval_seconds: must not be negative, is -0.5",
        ),
    ],
)
def test_a_check_that_is_refused_names_its_place(message: mesos_pb2.CheckInfo, violation: str) -> None:
    assert refusals(check=message) == [f"TaskInfo.check.{violation}"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = CI(type=CI.TCP, tcp=CI.Tcp(port=0))
    assert refusals(http(port=0), wrong) == [
        "TaskInfo.health_check.http.port: must be from 1 to 65535, is 0",
        "TaskInfo.check.tcp.port: must be from 1 to 65535, is 0",
    ]


TEXT = st.sampled_from(["", "/", "/x", "http", "https", "a b", "\0", "{{x}}", "/\N{SNOWMAN}"])
NUMBER = st.integers(0, 70000)
MESSAGE = st.builds(
    HC,
    type=st.sampled_from([HC.UNKNOWN, HC.COMMAND, HC.HTTP, HC.TCP]),
    http=st.builds(HC.HTTPCheckInfo, port=NUMBER, path=TEXT, scheme=TEXT, statuses=st.lists(NUMBER, max_size=2)),
    tcp=st.none() | st.builds(HC.TCPCheckInfo, port=NUMBER),
    command=st.builds(
        mesos_pb2.CommandInfo, value=TEXT, shell=st.booleans(), arguments=st.lists(TEXT, max_size=3), user=TEXT
    ),
    delay_seconds=st.floats(),
    interval_seconds=st.floats(0, 1e9),
    timeout_seconds=st.none() | st.floats(),
    consecutive_failures=st.integers(0, 2**32 - 1),
)


@settings(deadline=None)
@given(MESSAGE)
def test_every_health_check_is_refused_or_can_be_acted_on(message: mesos_pb2.HealthCheck) -> None:
    try:
        made = health(message)
    except InvalidTask as invalid:
        violations = invalid.violations
    else:
        check_that_it_can_be_acted_on(made)
        return
    assert all(text.startswith("TaskInfo.health_check.") for text in violations)


def check_that_it_can_be_acted_on(made: HealthCheck) -> None:
    assert 0.1 <= made.interval < math.inf
    for time in (made.delay, made.timeout, made.grace):
        assert 0 <= time < math.inf
    assert 0 <= made.max_failures < 2**32
    assert describe(made.target).isprintable()
    if isinstance(made.target, CommandTarget):
        assert made.target.argv[0]
    else:
        assert 1 <= made.target.port <= 65535
