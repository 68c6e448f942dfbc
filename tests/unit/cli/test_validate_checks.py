"""What `trivet validate` shows of a task's checks."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

BARE: dict[str, Any] = {"processes": [{"name": "a", "cmdline": ""}]}
JOB: dict[str, Any] = {"task": BARE, "role": "r", "cluster": "c", "environment": "e"}
ATTEMPTS = "RUNNING after 2 successes in a row within 5 attempts; 2 failures in a row after 2 attempts: FAILED"
TIMES = {"interval_seconds": 2, "timeout_seconds": 0, "consecutive_failures": 1}


def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], document: object, *options: str) -> str:
    file = tmp_path / "task.json"
    file.write_text(json.dumps(document))
    assert main(["validate", *options, str(file)]) == 0
    return capsys.readouterr().out


def task_info(document: object, **fields: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(document).encode()).decode()
    return {"name": "n", "task_id": {"value": "t"}, "agent_id": {"value": "a"}, "data": data, **fields}


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        (
            {},
            [
                "  health     GET http://localhost:(health)/health every 10 s, timeout 1 s",
                "             success: body 'ok'",
                "             rule aurora-time, unless trivet-health --aurora-rule says otherwise",
                "             RUNNING after 1 success within 15 s; 1 failure after that: FAILED",
            ],
        ),
        (
            {
                "health_checker": {
                    "http": {"port": 8443, "scheme": "https", "expected_response_codes": ["200-299", 404]}
                },
                "rule": "attempts",
                "max_consecutive_failures": 1,
                "min_consecutive_successes": 2,
            },
            [
                "  health     GET https://localhost:8443/health every 10 s, timeout 1 s",
                "             success: status 200-299 or 404, body 'ok'",
                "             rule aurora-attempts",
                f"             {ATTEMPTS}",
            ],
        ),
        (
            {"health_checker": {"tcp": {"port": "{{thermos.ports[x]}}"}}, "rule": "time"},
            ["  health     connect to localhost:(x) every 10 s, timeout 1 s", "             rule aurora-time"],
        ),
        (
            {"health_checker": {"shell": {"shell_command": "hunter2"}}},
            ["  health     a shell command every 10 s, timeout 1 s"],
        ),
        (
            {"health_checker": {"command": {"argv": ["hunter2"], "environment": {"A": "hunter2"}}}},
            ["  health     a command every 10 s, timeout 1 s"],
        ),
    ],
)
def test_auroras_health_check_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, Any], lines: list[str]
) -> None:
    out = shown(tmp_path, capsys, JOB | {"health_check_config": config})
    at = out.splitlines().index(lines[0])
    assert out.splitlines()[at : at + len(lines)] == lines
    assert "hunter2" not in out
    assert "hunter2" not in shown(tmp_path, capsys, JOB | {"health_check_config": config}, "--json")


HEALTH = {"type": "HTTP", "http": {"port": 8080, "path": "/up"}, **TIMES}
CHECK = {"type": "COMMAND", "command": {"command": {"value": "hunter2"}}}


def test_mesos_own_checks_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(tmp_path, capsys, task_info(JOB, health_check=HEALTH, check=CHECK)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  health"))
    assert lines[at : at + 7] == [
        "  health     GET http://127.0.0.1:8080/up every 2 s, no timeout, first after 15 s",
        "             success: status 200-399",
        "             rule mesos",
        "             RUNNING at once; 1 failure after 10 s or the first success: KILLED",
        "             Aurora's HTTP check instead if the agent assigns a port `health`",
        "  check      a shell command every 10 s, timeout 20 s, first after 15 s",
        "             its results are told, and decide nothing",
    ]
    gated = task_info(BARE, health_check=HEALTH, labels={"labels": [{"key": "trivet.health_gated", "value": "true"}]})
    out = shown(tmp_path, capsys, gated)
    assert "  RUNNING after 1 success; 1 failure after 10 s or the first success: KILLED\n" in out
    assert "Aurora's" not in out


def test_programs_get_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(tmp_path, capsys, task_info(BARE, health_check=HEALTH, check=CHECK), "--json"))
    assert told["health"] == {
        "source": "mesos",
        "rule": "mesos",
        "gates": False,
        "type": "http",
        "port": 8080,
        "path": "/up",
        "delay_secs": 15,
        "interval_secs": 2,
        "timeout_secs": 0,
        "grace_secs": 10,
        "max_consecutive_failures": 0,
        "min_consecutive_successes": 1,
    }
    assert told["check"] == {"type": "command", "delay_secs": 15, "interval_secs": 10, "timeout_secs": 20}
    told = json.loads(shown(tmp_path, capsys, JOB | {"health_check_config": {}}, "--json"))
    assert (told["health"]["port"], told["health"]["rule"], told["check"]) == (None, None, None)
    told = json.loads(shown(tmp_path, capsys, JOB, "--json"))
    assert (told["health"], told["check"]) == (None, None)
