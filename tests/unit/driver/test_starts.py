"""What a start is completed with: environment and logging, and what wins over what."""

from __future__ import annotations

import itertools

import pytest

from executor_shim.driver.environment import Environment
from executor_shim.driver.options import Options
from executor_shim.driver.starts import start_command
from trivet.runner.v1 import runner_pb2

EXECUTOR = {
    "MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_AGENT_ENDPOINT": "h:1", "MESOS_SANDBOX": "/s",
    "PATH": "/agent/bin", "HOME": "/agent", "EXTRA": "salt", "USER": "agent", "LOGNAME": "agent",
}  # fmt: skip
OWN = ["--fd", "3", "--state-fds", "4,5", "--generation", "1", "--incarnation", "i", "--services", "/run"]


def command(start: runner_pb2.Start, *options: str) -> dict[str, object]:
    return start_command("1:t", start, Environment(EXECUTOR), Options([*OWN, *options]))


def start(logging: runner_pb2.Logging | None = None, **env: str) -> runner_pb2.Start:
    return runner_pb2.Start(process="p", argv=["x"], stdout="out", stderr="err", env=env, logging=logging)


def test_environment_is_what_the_runner_says_and_the_executors_path() -> None:
    assert command(start(HOME="/s/sandbox"))["env"] == {"HOME": "/s/sandbox", "PATH": "/agent/bin"}
    assert command(start(PATH="/own"))["env"] == {"PATH": "/own"}


def test_preserve_env_adds_the_executors_environment_below_it() -> None:
    env = command(start(HOME="/s/sandbox"), "--preserve-env", "yes")["env"]
    assert env == {
        **{name: value for name, value in EXECUTOR.items() if name not in ("USER", "LOGNAME")},
        "HOME": "/s/sandbox",
    }


@pytest.mark.parametrize("preserve", ["yes", "no"])
def test_the_names_of_the_user_are_never_inherited(preserve: str) -> None:
    # They may be those of whoever started the agent; the coordinator fills in its own.
    assert {"USER", "LOGNAME"}.isdisjoint(command(start(), "--preserve-env", preserve)["env"])  # type: ignore[arg-type]
    env = command(start(USER="www", LOGNAME="www"), "--preserve-env", preserve)["env"]
    assert isinstance(env, dict)
    assert (env["USER"], env["LOGNAME"]) == ("www", "www")


FILE, CONSOLE, BOTH, NONE = (("out", "err", False), ("", "", True), ("out", "err", True), ("", "", False))
BY_NAME = {"file": FILE, "console": CONSOLE, "both": BOTH, "none": NONE}


@pytest.mark.parametrize(("destination", "mode"), [*itertools.product(BY_NAME, ("standard", "rotate"))])
def test_options_decide_when_the_task_does_not_say(destination: str, mode: str) -> None:
    options = ["--process-logger-destination", destination, "--process-logger-mode", mode, "--rotate-log-size-mb", "2"]
    sent = command(start(), *options, "--rotate-log-backups", "3")
    assert (sent["stdout"], sent["stderr"]) == BY_NAME[destination][:2]
    rotate = mode == "rotate" and destination in ("file", "both")
    assert sent["logging"] == {
        "console": BY_NAME[destination][2],
        "limit": 2 << 20 if rotate else 0,
        "backups": 3 if mode == "rotate" else 0,
    }


def test_without_options_it_is_a_standard_file() -> None:
    sent = command(start())
    assert (sent["stdout"], sent["stderr"]) == ("out", "err")
    assert sent["logging"] == {"console": False, "limit": 0, "backups": 0}


def test_the_tasks_logger_wins_over_the_options() -> None:
    options = ["--process-logger-destination", "none", "--process-logger-mode", "rotate"]
    rules = runner_pb2.Logging(file=True, console=True, log_size=7, backups=1)
    sent = command(start(rules), *options)
    assert (sent["stdout"], sent["stderr"]) == ("out", "err")
    assert sent["logging"] == {"console": True, "limit": 7, "backups": 1}
    # Said, though all of it is false: none.
    sent = command(start(runner_pb2.Logging()), "--process-logger-destination", "both")
    assert (sent["stdout"], sent["stderr"]) == ("", "")
    assert sent["logging"] == {"console": False, "limit": 0, "backups": 0}
