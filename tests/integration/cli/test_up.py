"""`trivet up`: services for others, kept running."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.rig import Cli, directory, example, pid_of, run, running_in, statuses, trivet

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root() -> Iterator[str]:
    with directory() as path:
        yield path


def until_ready(up: Cli) -> None:
    assert up.process.stdout is not None
    for line in up.process.stdout:
        up.lines.append(line)
        if line.startswith("logs:"):
            return
    raise AssertionError(up.lines)


def test_services_serve_several_runs_and_stop_in_order(root: str) -> None:
    with trivet(root, "up", "--dir", root) as up:
        until_ready(up)
        assert f"trivet-executor --services {root}/run" in "".join(up.lines)
        assert os.stat(f"{root}/run/runner.sock").st_mode & 0o777 == 0o666
        for services in (root, f"{root}/run"):
            with directory() as other:
                cli = run(other, "--services", services, example("hello"))
                assert cli.process.returncode == 0
                assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
                assert not os.path.exists(f"{other}/run/runner.sock")
        up.interrupt()
        assert up.end() == 0


def test_a_killed_service_is_started_again(root: str) -> None:
    with trivet(root, "up", "--dir", root) as up:
        until_ready(up)
        for part in ("runner", "health", "reporter"):
            os.kill(pid_of(root, f"services.{part}"), signal.SIGKILL)
            up.until_noted(f"{part} died (SIGKILL), it is started again")
        with directory() as other:
            assert run(other, "--services", root, example("hello")).process.returncode == 0
        up.process.terminate()
        assert up.end() == 0


def test_a_second_stack_in_the_same_directory_is_refused_and_the_first_goes_on(root: str) -> None:
    with trivet(root, "up", "--dir", root) as up:
        until_ready(up)
        before = set(running_in(root))
        with trivet("/nonexistent", "up", "--dir", root) as second:
            assert second.end() == 1
        assert "in use by process" in second.err
        assert before == set(running_in(root))
        with directory() as other:
            assert run(other, "--services", root, example("hello")).process.returncode == 0
        up.interrupt()
        assert up.end() == 0


def test_services_that_are_not_there_are_an_error_that_says_what_to_do(root: str) -> None:
    cli = run(root, "--services", f"{root}/nothing", example("hello"))
    assert cli.process.returncode == 2
    assert (
        cli.err
        == f"trivet: {root}/nothing: there is no runner.sock here: start the services with `trivet up --dir DIR`\n"
    )


def test_a_directory_that_is_too_deep_is_an_error_that_says_what_to_do(root: str) -> None:
    deep = os.path.join(root, "d" * 90)
    with trivet(root, "up", "--dir", deep) as up:
        assert up.end() == 1
    assert "Use a directory with a shorter path" in up.err
