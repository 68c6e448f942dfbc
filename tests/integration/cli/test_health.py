"""`trivet health` and `trivet snooze` on a whole stack: the probes are made inside the task's container."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.cli.tasks_rig import Tool
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


@pytest.fixture
def trivet(stack: Stack) -> Tool:
    return Tool(stack)


def job(cmdline: str, command: str, **config: Any) -> dict[str, Any]:
    """An Aurora job whose health is a shell command."""
    return {
        "task": {"name": "web", "processes": [{"name": "p", "cmdline": cmdline}]},
        "role": "",
        "environment": "prod",
        "cluster": "c",
        "name": "web",
        "health_check_config": {
            "interval_secs": 0.2,
            "timeout_secs": 20,
            "health_checker": {"shell": {"shell_command": command}},
            **config,
        },
    }


def told(info: mesos_pb2.TaskInfo) -> None:
    """A second check: told as it is."""
    info.check.type = mesos_pb2.CheckInfo.COMMAND
    info.check.delay_seconds, info.check.interval_seconds = 0, 0.2
    info.check.command.command.value = "exit 7 # s3cret"


def test_a_task_is_watched_snoozed_and_woken(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(
        job(
            f"read x < {gate.path}",
            "test ! -e bad # s3cret",
            max_consecutive_failures=100_000,
            initial_interval_secs=60,
        ),
        task_id="web-0",
        edit=told,
    )
    task.wait_for("TASK_RUNNING")

    def state(kind: str = "health") -> dict[str, Any]:
        said = trivet("health", "web-0", "--json")
        assert (said.returncode, said.stderr) == (0, "")
        found: list[dict[str, Any]] = [json.loads(line) for line in said.stdout.splitlines()]
        return next(each for each in found if each["kind"] == kind)

    wait_until(lambda: state("check")["value"] == {"exit_code": 7}, "the result of the check")
    assert (state()["healthy"], state()["probe"], state()["rule"]) == (True, "command", "aurora-time")
    table = trivet("health").stdout
    assert [line.split()[:5] for line in table.splitlines()[1:]] == [
        ["web-0", "health", "command", "aurora-time", "healthy"],
        ["web-0", "check", "command", "check", "exit"],
    ]
    details = trivet("health", "web-0").stdout
    assert "  probe      a shell command every 0.2 s, timeout 20 s" in details
    sandbox = pathlib.Path(task.sandbox) / "sandbox"
    (sandbox / "bad").touch()
    wait_until(lambda: state()["consecutive_failures"] > 1, "failures")
    (sandbox / "bad").unlink()
    wait_until(lambda: state()["consecutive_failures"] == 0, "a success")
    (sandbox / ".healthchecksnooze").touch()
    wait_until(lambda: "healthy, snoozed (file)" in trivet("health", "web-0").stdout, "the snooze file")
    (sandbox / ".healthchecksnooze").unlink()
    wait_until(lambda: not state()["snoozed"], "the end of it")
    assert trivet("snooze", "web-0").returncode == 0
    (sandbox / "bad").touch()
    probes = state("check")["probes"]
    wait_until(lambda: state("check")["probes"] > probes + 3, "probes of the other check")
    assert (state()["healthy"], state()["consecutive_failures"]) == (True, 0)
    assert trivet("snooze", "web-0", "--wake").stdout == "web-0: probed now\n"
    wait_until(lambda: state()["consecutive_failures"] > 0, "a failure after the snooze")
    (sandbox / "bad").unlink()
    for journal in pathlib.Path(stack.dir, "state/health/checks").iterdir():
        shown = trivet("journal", str(journal))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "specs=(health: command, rule aurora-time), (check: command, rule check)" in shown.stdout
        assert "s3cret" not in shown.stdout
    assert "s3cret" not in table + details + trivet("health", "web-0", "--json").stdout
    with trivet.open("health", "web-0", "--watch") as watch:
        watch.until(b" ms  Command health check passed\n")
        gate.open()
        assert watch.end() == 0
    assert task.wait_end() == "TASK_FINISHED"
    assert trivet("health", "web-0").returncode == 2


def test_a_service_that_is_away_is_named(stack: Stack, trivet: Tool) -> None:
    stack.parts["health"].kill()
    refused = trivet("health")
    assert refused.returncode == 2
    assert "health-admin.sock: nobody listens: health has ended; start it (`trivet up --dir DIR`)" in refused.stderr
    with trivet.open("health") as health:
        health.until(b"no answer yet from health in", err=True)
        stack.parts["health"].start()
        assert health.end() == 0
        assert health.out.startswith(b"no checks")
