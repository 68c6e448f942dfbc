"""What of a task's definition becomes its checks, and what of them the driver is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.common.task.checks import CommandTarget, Expected, HttpTarget, Loopback, Source, TcpTarget
from services.health.model import Kind
from services.health.rules import RULES, Limits
from services.health.spec import Spec, spec_of_json, specs_of_info
from tests.unit.health.tasks import hello, task_info, with_checks
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY = TaskKey(Executor("f", "e", "i"), "t", 1)
HC, CI = mesos_pb2.HealthCheck, mesos_pb2.CheckInfo
ENV = {"HOME": "/mnt/mesos/sandbox/sandbox"}


def spec(
    health: dict[str, Any] | None = None, ports: dict[str, int] | None = None, uid: int = 1000, **task: Any
) -> Spec:
    (made,) = specs_of_info(task_info(health, ports, **task), hello(uid), "time")
    return made


def command(value: str, **env: str) -> mesos_pb2.CommandInfo:
    made = mesos_pb2.CommandInfo(value=value)
    for name, text in env.items():
        made.environment.variables.add(name=name, value=text)
    return made


def both(uid: int = 0) -> tuple[Spec, ...]:
    info = with_checks(
        task_info(),
        HC(type=HC.HTTP, http=HC.HTTPCheckInfo(port=80, path="/x", scheme="https"), consecutive_failures=4),
        CI(type=CI.COMMAND, command=CI.Command(command=command("true", A="1")), delay_seconds=2, interval_seconds=3),
        trivet_health_gated="true",
    )
    return specs_of_info(info, hello(uid), "time")


def test_a_job_with_a_port_named_health_is_checked_with_auroras_defaults() -> None:
    assert spec(ports={"health": 31001}) == Spec(
        kind=Kind.HEALTH,
        source=Source.AURORA,
        target=HttpTarget(31001, "/health"),
        expected=Expected(body="ok"),
        timeout=1,
        limits=Limits(15, 10, 0, 1),
        rule="aurora-time",
        gates=True,
        env=ENV,
    )


@pytest.mark.parametrize("word", ["time", "attempts"])
def test_the_services_rule_is_for_tasks_that_name_none(word: str) -> None:
    (silent,) = specs_of_info(task_info({}, {"health": 1}), hello(), word)
    assert silent.rule == f"aurora-{word}"
    for given in ("time", "attempts"):
        (made,) = specs_of_info(task_info({"rule": given}, {"health": 1}), hello(), word)
        assert made.rule == f"aurora-{given}"
    assert [made.rule for made in both()] == ["mesos", "check"]


def test_mesos_two_checks_become_two_specs() -> None:
    health, check = both()
    env = ENV | {"USER": "www", "LOGNAME": "www"}
    assert health == Spec(
        kind=Kind.HEALTH,
        source=Source.MESOS,
        target=HttpTarget(80, "/x", tls=True, loopback=Loopback.IPV4),
        expected=Expected(((200, 399),)),
        timeout=20,
        limits=Limits(10, 10, 3, 1, 15),
        rule="mesos",
        gates=True,
        user="www",
        env=env,
    )
    assert check == Spec(
        kind=Kind.CHECK,
        source=Source.MESOS,
        target=CommandTarget(("/bin/sh", "-c", "true"), {"A": "1"}, "true"),
        expected=Expected(),
        timeout=20,
        limits=Limits(0, 3, 0, 1, 2),
        rule="check",
        gates=False,
        user="www",
        env=env,
    )


def test_a_task_may_have_nothing_but_a_check() -> None:
    info = with_checks(task_info(), None, CI(type=CI.TCP, tcp=CI.Tcp(port=81)))
    (check,) = specs_of_info(info, hello(), "time")
    assert (check.kind, check.type) == (Kind.CHECK, "tcp")


def test_no_port_named_health_and_no_shell_is_no_check() -> None:
    assert specs_of_info(task_info(ports={"http": 31001}), hello(), "time") == ()
    assert specs_of_info(task_info({"health_checker": {"http": {"endpoint": "/x"}}}), hello(), "time") == ()


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff", b"", mesos_pb2.TaskInfo(name="x", data=b"{").SerializePartialToString()]
)
def test_an_invalid_task_has_no_check(raw: bytes) -> None:
    assert specs_of_info(raw, hello(), "time") == ()


@pytest.mark.parametrize(
    ("uid", "user", "expected"), [(0, None, "www"), (0, "web", "web"), (1000, None, ""), (1000, "web", "web")]
)
def test_a_command_runs_as_the_tasks_processes_do(uid: int, user: str | None, expected: str) -> None:
    task: dict[str, Any] = {} if user is None else {"user": user}
    probe = spec({"health_checker": {"shell": {"shell_command": "x"}}}, uid=uid, **task).probe(KEY, 7)
    assert list(probe.command.argv) == ["/bin/bash", "-c", "x"]
    assert probe.command.user == expected
    assert (probe.command.cwd, probe.command.profile) == ("sandbox", "sandbox/.thermos_profile")
    assert dict(probe.command.env) == (ENV | {"USER": expected, "LOGNAME": expected} if expected else ENV)


def test_a_commands_own_variables_win() -> None:
    config = {"health_checker": {"command": {"argv": ["x", "y"], "environment": {"HOME": "/", "A": "1"}}}}
    probe = spec(config).probe(KEY, 7)
    assert list(probe.command.argv) == ["x", "y"]
    assert dict(probe.command.env) == {"HOME": "/", "A": "1"}


def test_an_http_probe_says_all_that_the_driver_needs() -> None:
    http = {
        "endpoint": "/up?x=1",
        "port": "admin",
        "scheme": "https",
        "protocol": "IPv6",
        "headers": {"B": "2", "A": "1"},
    }
    made = spec({"timeout_secs": 2.5, "health_checker": {"http": http}}, {"admin": 31001})
    assert made.probe(KEY, 7) == health_pb2.Probe(
        key=KEY.to_pb(),
        id=7,
        timeout_secs=2.5,
        check=health_pb2.CHECK_KIND_HEALTH,
        snooze_file="sandbox/.healthchecksnooze",
        http=health_pb2.HttpProbe(
            port=31001,
            path="/up?x=1",
            tls=True,
            headers=[health_pb2.HttpHeader(name="A", value="1"), health_pb2.HttpHeader(name="B", value="2")],
            loopback=health_pb2.LOOPBACK_IPV6,
            max_redirects=10,
            body_limit=4096,
        ),
    )


def test_a_tcp_probe_says_all_that_the_driver_needs() -> None:
    assert spec({"health_checker": {"tcp": {"port": 5}}}).probe(KEY, 8) == health_pb2.Probe(
        key=KEY.to_pb(),
        id=8,
        timeout_secs=1,
        check=health_pb2.CHECK_KIND_HEALTH,
        snooze_file="sandbox/.healthchecksnooze",
        tcp=health_pb2.TcpProbe(port=5),
    )


def test_a_check_cannot_be_snoozed() -> None:
    probe = both()[1].probe(KEY, 9)
    assert (probe.check, probe.snooze_file) == (health_pb2.CHECK_KIND_CHECK, "")


@pytest.mark.parametrize(
    ("body", "limit"), [("ok", 4096), ("", 0), (" \n", 0), ("x" * 65536, 4 * 65536), ("\N{SNOWMAN}" * 2000, 24000)]
)
def test_as_much_of_a_body_is_read_as_is_compared(body: str, limit: int) -> None:
    config = {"health_checker": {"http": {"expected_response": body}}}
    assert spec(config, {"health": 1}).probe(KEY, 1).http.body_limit == limit
    assert both()[0].probe(KEY, 1).http.body_limit == 0


def test_a_description_names_no_secret() -> None:
    http = {"http": {"headers": {"Authorization": "hunter2"}}}
    for checker in (http, {"command": {"argv": ["a", "b c"], "environment": {"PASSWORD": "hunter2"}}}):
        assert "hunter2" not in spec({"health_checker": checker}, {"health": 5}).describe()
    assert spec({"health_checker": http}, {"health": 5}).describe() == (
        "GET http://localhost:5/health every 10 s, timeout 1 s"
    )
    assert both()[1].describe() == 'shell command "true" every 3 s, timeout 20 s'
    assert both()[1].describe_target() == 'shell command "true"'


def journalled() -> Iterable[Spec]:
    yield spec(ports={"health": 31001})
    yield spec({"health_checker": {"shell": {"shell_command": "x"}}}, uid=0)
    yield spec({"health_checker": {"tcp": {"port": 5, "protocol": "IPv4"}}, "rule": "attempts"})
    yield spec({"health_checker": {"command": {"argv": ["x", "y"], "environment": {"A": "1"}}}})
    codes = {"expected_response_codes": ["200-299", "404"], "headers": {"A": "1"}, "scheme": "https", "port": 5}
    yield spec({"health_checker": {"http": codes}, "initial_interval_secs": 0})
    yield from both()


def test_a_spec_survives_the_journal() -> None:
    for made in journalled():
        assert made.rule in RULES
        assert spec_of_json(json.loads(json.dumps(made.to_json()))) == made


OLD_LIMITS = {"initial_interval": 8.0, "interval": 4.0, "max_failures": 2, "min_successes": 3}
OLD_HTTP = {
    "target": {"port": 31001, "path": "/up", "expected_body": "Fine", "expected_status": 204},
    "timeout": 0.5,
    "limits": OLD_LIMITS,
    "rule": "aurora-time",
    "kind": "http",
}
OLD_ENV = ENV | {"USER": "www", "LOGNAME": "www"}
OLD_SHELL = {
    "target": {"command": "test -e ok", "user": "www", "env": OLD_ENV},
    "timeout": 1.0,
    "limits": OLD_LIMITS,
    "rule": "aurora-time",
    "kind": "shell",
}


def test_records_of_the_version_before_are_read() -> None:
    http = spec_of_json(OLD_HTTP)
    assert http == Spec(
        kind=Kind.HEALTH,
        source=Source.AURORA,
        target=HttpTarget(31001, "/up"),
        expected=Expected(((204, 204),), "Fine"),
        timeout=0.5,
        limits=Limits(8, 4, 2, 3),
        rule="aurora-time",
        gates=True,
    )
    any_status = {**OLD_HTTP, "target": {**OLD_HTTP["target"], "expected_status": 0}}  # type: ignore[dict-item]
    assert spec_of_json(any_status).expected == Expected(body="Fine")
    shell = spec_of_json(OLD_SHELL)
    assert shell.target == CommandTarget(("/bin/bash", "-c", "test -e ok"), text="test -e ok")
    probe = shell.probe(KEY, 7)
    assert (probe.command.user, dict(probe.command.env)) == ("www", OLD_ENV)
    assert spec_of_json(json.loads(json.dumps(shell.to_json()))) == shell


def broken() -> Iterable[tuple[dict[str, object], dict[str, object]]]:
    old: dict[str, object] = dict(OLD_HTTP)
    new = spec(ports={"health": 31001}).to_json()
    for record in (old, new):
        yield record, {"rule": "aurora-future"}
        yield record, {"kind": "tcp"}
        yield record, {"target": {"port": 1}}
        yield record, {"limits": {}}
        yield record, {"limits": {**OLD_LIMITS, "interval": "1"}}
        yield record, {"limits": {**OLD_LIMITS, "new": 1}}
        yield record, {"timeout": "1"}
        yield record, {"target": None}
    yield new, {"source": "marathon"}
    yield new, {"target": {"type": "grpc", "port": 1}}
    yield new, {"target": {"type": "command", "argv": [], "env": {}, "text": ""}}
    yield new, {"expected": {"statuses": [[1]], "body": ""}}
    yield new, {"env": {"A": 1}}


@pytest.mark.parametrize(("record", "change"), list(broken()))
def test_a_foreign_spec_is_refused(record: dict[str, object], change: dict[str, object]) -> None:
    assert isinstance(spec_of_json(record), Spec)
    with pytest.raises(ValueError, match="not a health check"):
        spec_of_json({**record, **change})


def test_a_tcp_target_is_read_as_written() -> None:
    made = spec({"health_checker": {"tcp": {"port": 5}}})
    assert made.target == TcpTarget(5)
    assert made.describe() == "connect to localhost:5 every 10 s, timeout 1 s"
