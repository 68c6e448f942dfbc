"""What the hands are told of a process (Thermos: coordinator, environment, logger)."""

from __future__ import annotations

import pytest

from services.common.keys import Executor, TaskKey
from services.runner import commands
from services.runner.header import Facts
from trivet.runner.v1 import runner_pb2
from trivet.task.v1 import task_pb2

KEY = TaskKey(Executor("f", "e", "i"), "t", 1)
FACTS = Facts("boot", "host", "/mnt/mesos/sandbox", "/var/host", 0)


def start(process: task_pb2.Process, user: str = "", run: int = 3) -> runner_pb2.Start:
    return commands.start(KEY, FACTS, user, process, run).start


def test_command_line_goes_to_bash_unchanged_in_the_sandbox() -> None:
    sent = start(task_pb2.Process(name="p", cmdline="echo '$x' && {{literally}}"))
    assert list(sent.argv) == ["/bin/bash", "-c", "echo '$x' && {{literally}}"]
    assert (sent.cwd, sent.process, sent.run) == ("sandbox", "p", 3)
    assert sent.profile == "sandbox/.thermos_profile"


def test_home_is_the_sandbox_and_the_user_is_named() -> None:
    process = task_pb2.Process(name="p", cmdline="")
    assert dict(start(process).env) == {"HOME": "/mnt/mesos/sandbox/sandbox"}
    sent = start(process, "web")
    assert sent.user == "web"
    assert dict(sent.env) == {"HOME": "/mnt/mesos/sandbox/sandbox", "USER": "web", "LOGNAME": "web"}


@pytest.mark.parametrize("name", ["p", "with blank", "quo'te\"s", "tab\t", "*", "$HOME", "größe", "a%b", "x" * 200])
def test_logs_are_by_process_and_run_whatever_the_name(name: str) -> None:
    sent = start(task_pb2.Process(name=name, cmdline=""))
    assert (sent.stdout, sent.stderr) == (f"sandbox/.logs/{name}/3/stdout", f"sandbox/.logs/{name}/3/stderr")


def test_a_process_without_a_logger_leaves_it_to_the_executor() -> None:
    assert not start(task_pb2.Process(name="p", cmdline="")).HasField("logging")


@pytest.mark.parametrize(
    ("logger", "expected"),
    [
        ({}, {"file": True}),
        ({"destination": "console", "mode": "rotate"}, {"console": True, "log_size": 100 << 20, "backups": 5}),
        ({"destination": "both"}, {"file": True, "console": True}),
        ({"destination": "none"}, {}),
        ({"mode": "rotate"}, {"file": True, "log_size": 100 << 20, "backups": 5}),
        ({"mode": "rotate", "rotate": {"log_size": 7}}, {"file": True, "log_size": 7, "backups": 5}),
        ({"mode": "standard", "rotate": {"log_size": 7, "backups": 1}}, {"file": True}),
    ],
)
def test_a_logger_says_everything(logger: dict[str, object], expected: dict[str, object]) -> None:
    process = task_pb2.Process(name="p", cmdline="", logger=task_pb2.Logger(**logger))  # type: ignore[arg-type]
    assert start(process).logging == runner_pb2.Logging(**expected)  # type: ignore[arg-type]
    assert start(process).HasField("logging")
