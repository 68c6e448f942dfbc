"""The command line."""

from __future__ import annotations

import pytest

from services.local_agent import settings
from services.local_agent.containers import resources
from services.local_agent.core import durations


def test_defaults_are_those_of_mesos() -> None:
    parsed = settings.parse(["--work-dir", "/w"])
    assert (parsed.ip, parsed.port, parsed.run_dir, parsed.destroy_on_exit) == ("127.0.0.1", 0, "/w", False)
    assert parsed.executor_registration_timeout == durations.parse("1mins")
    assert parsed.executor_reregistration_timeout == durations.parse("2secs")
    assert parsed.executor_shutdown_grace_period == durations.parse("5secs")
    assert parsed.environment_flags.recovery_timeout == durations.parse("15mins")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--work-dir"),
        (["--work-dir", "/w", "--executor-registration-timeout", "5s"], "--executor-registration-timeout"),
        (["--work-dir", "/w", "--executor-reregistration-timeout", "16secs"], "--executor-reregistration-timeout"),
        (["--work-dir", "/w", "--port", "70000"], "--port"),
        (["--work-dir", "/w", "--ip", "0.0.0.0"], "--ip"),
        (["--work-dir", "/w", "--ip", "::1"], "--ip"),
        (["--work-dir", "/w", "--run-dir", "/" + "x" * 100], "--run-dir"),
        (["--work-dir", "/w", "--executor-environment-variables", "[]"], "--executor-environment-variables"),
        (["--work-dir", "/w", "--executor-environment-variables", '{"a":1}'], "--executor-environment-variables"),
        (["--work-dir", "/w", "--resources", "cpus"], "--resources"),
        (["--work-dir", "/w", "--resources", "cpus:many"], "--resources"),
        (["--work-dir", "/w", "--resources", "ports:[1]"], "--resources"),
    ],
)
def test_mistakes_are_named(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.parse(flags)
    assert ended.value.code == 2
    assert f"{named}" in capsys.readouterr().err.splitlines()[-1]


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings.parse(["--help"])
    text = capsys.readouterr().out
    for flag in ("--work-dir", "--run-dir", "--on-exit", "--launcher", "--recovery-timeout", "--resources"):
        assert flag in text


def test_resources_are_read_in_mesos_form() -> None:
    cpus, ports = resources.parse("cpus:0.5; ports:[1-2,5-9]")
    assert (cpus.name, cpus.scalar.value) == ("cpus", 0.5)
    assert [(r.begin, r.end) for r in ports.ranges.range] == [(1, 2), (5, 9)]
