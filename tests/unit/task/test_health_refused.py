"""Configurations of Aurora's health check that are refused, with their places."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.task import HealthCheck, InvalidTask
from services.common.task.checks import CommandTarget, describe
from tests.unit.task.test_health_aurora import job


def refusal(config: dict[str, Any], **ports: int) -> str:
    with pytest.raises(InvalidTask) as caught:
        job(config, **ports)
    return str(caught.value).removeprefix("health_check_config.")


BOTH = "health_checker: must have only one of "
PORTS = {"a": 1, "b": 2}
STATUS = 'must be a status from 100 to 999 or a range such as "200-299"'


@pytest.mark.parametrize(
    ("checker", "violation"),
    [
        ({"http": {"port": 0}}, "http.port: must be from 1 to 65535, is 0"),
        ({"http": {"port": "65536"}}, "http.port: must be from 1 to 65535, is 65536"),
        ({"http": {"port": -1}}, "http.port: must be from 1 to 65535, is -1"),
        ({"http": {"port": "health"}}, 'http.port: no port is named "health"; there are "a", "b"'),
        ({"tcp": {}}, 'tcp.port: no port is named "health"; there are "a", "b"'),
        ({"http": {"port": True}}, "http.port: must be a string, not true"),
        ({"http": {"endpoint": "health"}}, "http.endpoint: must start with a slash and be ASCII without blanks"),
        ({"http": {"endpoint": "/" + "x" * 9000}}, "http.endpoint: must not be longer than 8192 bytes"),
        ({"http": {"scheme": "ftp"}}, 'http.scheme: must be http or https, is "ftp"'),
        ({"http": {"protocol": "ipv4"}}, 'http.protocol: must be IPv4 or IPv6, is "ipv4"'),
        ({"tcp": {"port": 1, "protocol": "ipx"}}, 'tcp.protocol: must be IPv4 or IPv6, is "ipx"'),
        (
            {"http": {"headers": {"X": "a\r\nY: b"}}},
            "http.headers.X: must be printable ASCII, without line breaks, of at most 8192 bytes",
        ),
        ({"http": {"headers": {"X: a\r\nY": "b"}}}, 'http.headers."X: a\\r\\nY": is not the name of a header'),
        ({"http": {"headers": {"Content-Length": "5"}}}, "http.headers.Content-Length: cannot be set: the prober does"),
        ({"http": {"headers": {"a": "", "A": ""}}}, "http.headers.a: is given twice: case makes no difference"),
        (
            {"http": {"headers": {f"x{n}": "y" * 8000 for n in range(9)}}},
            "http.headers: must not have more than 65536 bytes in all, has 72018",
        ),
        (
            {"http": {"expected_response_codes": ["299-200"]}},
            f'http.expected_response_codes[0]: {STATUS}, is "299-200"',
        ),
        (
            {"http": {"expected_response_codes": ["200", 99]}},
            f'http.expected_response_codes[1]: {STATUS}, is "99"',
        ),
        (
            {"http": {"expected_response_codes": ["200"], "expected_response_code": 200}},
            "http.expected_response_codes: must not stand beside expected_response_code",
        ),
        (
            {"http": {"expected_response": "x" * 65537}},
            "http.expected_response: must not be longer than 65536 bytes, has 65537",
        ),
        ({"command": {}}, "command.argv: must not be empty"),
        ({"command": {"argv": ["", "x"]}}, "command.argv[0]: must not be empty: it is the program"),
        ({"command": {"argv": ["x", "\0"]}}, "command.argv[1]: must not contain NUL"),
        (
            {"command": {"argv": ["x" * 100_000] * 3}},
            "command.argv: must not have more than 262144 bytes in all, has 300003",
        ),
        (
            {"command": {"argv": ["x"], "environment": {"A=B": "c"}}},
            'command.environment."A=B": must not be empty, nor contain = or NUL: it names a variable',
        ),
        ({"command": {"argv": ["x"], "environment": {"A": "\0"}}}, "command.environment.A: must not contain NUL"),
        ({"shell": {"shell_command": "\0"}}, "shell.shell_command: must not contain NUL"),
    ],
)
def test_what_is_refused_names_its_place(checker: dict[str, Any], violation: str) -> None:
    assert refusal({"health_checker": checker}, **PORTS) == f"health_checker.{violation}"


@pytest.mark.parametrize(
    "checker",
    [
        {"http": {}, "tcp": {}},
        {"http": {}, "command": {"argv": ["x"]}},
        {"tcp": {}, "command": {"argv": ["x"]}},
        {"http": {}, "tcp": {}, "command": {"argv": ["x"]}},
    ],
)
def test_two_checkers_at_once_are_refused(checker: dict[str, Any]) -> None:
    assert refusal({"health_checker": checker}, health=80) == BOTH + ", ".join(checker)


def test_a_secret_value_is_never_quoted() -> None:
    for checker in (
        {"http": {"headers": {"Authorization": "hunter2\n"}}},
        {"command": {"argv": ["x"], "environment": {"PASSWORD": "hunter2\0"}}},
    ):
        text = refusal({"health_checker": checker}, health=80)
        assert text
        assert "hunter2" not in text


def test_an_unknown_port_where_there_are_many_or_none() -> None:
    many = {f"p{n:02}": n + 1 for n in range(30)}
    assert refusal({"health_checker": {"tcp": {"port": "x"}}}, **many).endswith('"p19" and 10 more')
    assert refusal({"health_checker": {"tcp": {"port": "x"}}}).endswith("the task has no named ports")


WORDS = st.sampled_from(["", "health", "80", "/x", "http", "https", "IPv6", "a b", "\0", "200-299", "{{x}}", "true"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def fields(**names: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=names)


CONFIG = fields(
    health_checker=fields(
        http=st.dictionaries(
            st.sampled_from(["endpoint", "port", "scheme", "expected_response_codes", "headers", "protocol"]), VALUE
        ),
        shell=fields(shell_command=VALUE),
        tcp=fields(port=VALUE, protocol=VALUE),
        command=fields(argv=VALUE, environment=VALUE),
    ),
    initial_interval_secs=VALUE,
    interval_secs=VALUE,
    timeout_secs=VALUE,
    max_consecutive_failures=VALUE,
    min_consecutive_successes=VALUE,
    rule=VALUE,
)


@settings(deadline=None)
@given(CONFIG)
def test_every_configuration_is_refused_or_can_be_acted_on(config: dict[str, Any]) -> None:
    try:
        health = job(config, health=80).health
    except InvalidTask as invalid:
        violations = invalid.violations
    else:
        check_that_it_can_be_acted_on(health)
        return
    assert all(text.startswith("health_check_config") for text in violations)


def check_that_it_can_be_acted_on(health: HealthCheck | None) -> None:
    assert health is not None
    assert 0.1 <= health.interval < math.inf
    assert 0 < health.timeout < math.inf
    assert 0 <= health.grace < math.inf
    assert health.max_failures >= 0
    assert health.min_successes >= 1
    assert describe(health.target).isprintable()
    if isinstance(health.target, CommandTarget):
        assert health.target.argv[0]
    else:
        assert 1 <= health.target.port <= 65535
