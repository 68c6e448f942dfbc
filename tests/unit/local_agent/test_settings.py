"""The command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.local_agent import settings
from services.local_agent.containers import resources
from services.local_agent.core import durations

if TYPE_CHECKING:
    from pathlib import Path


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
        (["--work-dir", "/w", "--executor-registration-timeout", "5"], "--executor-registration-timeout"),
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
        (["--work-dir", "/w", "--resources", "cpus:-1"], "--resources"),
        (["--work-dir", "/w", "--resources", "mem:nan"], "--resources"),
        (["--work-dir", "/w", "--colour_of_sky", "blue"], "--colour_of_sky"),
        (["--work-dir", "/w", "--jwt-secret-key", "/no/such/file"], "--jwt-secret-key"),
        (["--work-dir", "/w", "--jwt-secret-key", "/dev/null"], "--jwt-secret-key"),
        (["--work-dir", "/w", "--authenticate-http-executors"], "--authenticate-http-executors"),
        (
            ["--work-dir", "/w", "--http-executor-domain-sockets", "--domain-socket-location", "/" + "x" * 107],
            "--domain-socket-location",
        ),
        (
            ["--work-dir", "/w", "--http-executor-domain-sockets", "--domain-socket-location", "/w/agent.sock"],
            "--domain-socket-location",
        ),
    ],
)
def test_mistakes_are_named(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.parse(flags)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, "the mistake, not the usage"
    assert f"{named}" in said[0]
    assert "see --help" in said[0]


def test_flags_may_be_spelled_as_mesos_does_and_values_stay_as_they_are() -> None:
    flags = ["--work_dir=/w_x", "--run_dir", "/r_x", "--no-switch_user", "--recover=cleanup", "--hostname", "a_b"]
    parsed = settings.parse(flags)
    assert (parsed.work_dir, parsed.run_dir, parsed.hostname) == ("/w_x", "/r_x", "a_b")
    assert parsed.cleanup
    assert not parsed.launcher.switch_user


@pytest.mark.parametrize(("text", "mesos"), [("5s", "5secs"), ("1.5m", "90secs"), ("2h", "2hrs"), ("7ms", "7ms")])
def test_times_may_be_short(text: str, mesos: str) -> None:
    parsed = settings.parse(["--work-dir", "/w", "--executor-registration-timeout", text])
    assert parsed.executor_registration_timeout == durations.parse(mesos)


def test_unix_socket_is_off_unless_asked_for_and_lies_in_the_run_dir() -> None:
    flags = ["--work-dir", "/w", "--run-dir", "/r"]
    assert settings.parse([*flags, "--domain-socket-location", "/s"]).domain_socket is None
    parsed = settings.parse([*flags, "--http-executor-domain-sockets"])
    assert (parsed.domain_socket, parsed.environment_flags.domain_socket) == ("/r/executors.sock", "/r/executors.sock")
    longest = "/" + "x" * 106
    parsed = settings.parse([*flags, "--http-executor-domain-sockets", "--domain-socket-location", longest])
    assert parsed.domain_socket == longest


def test_key_is_the_files_content_and_in_no_representation(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"sesame\x00\xff\n")
    parsed = settings.parse(["--work-dir", "/w", "--jwt-secret-key", str(file), "--authenticate-http-executors"])
    assert parsed.environment_flags.jwt_secret_key == b"sesame\x00\xff\n"
    assert parsed.authenticate_http_executors
    assert "sesame" not in repr(parsed)


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
