"""Commands about tasks whose runner, tasks or readers are not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.integration.cli.tasks_rig import Tool, shell

if TYPE_CHECKING:
    import pathlib

    from tests.integration.faults.stack import Stack


def test_unknown_tasks_are_named_with_what_to_do(trivet: Tool) -> None:
    for verb in (["inspect"], ["logs"], ["logs", "-f"], ["top"], ["top", "--once"]):
        refused = trivet(*verb, "nobody")
        assert refused.returncode == 2, verb
        assert refused.stderr.splitlines() == [
            "trivet: NOT_FOUND: task_id: no task 'nobody'",
            "trivet: `trivet ps --all` lists the tasks that the runner knows",
        ]


def test_a_runner_that_is_away_is_waited_for_and_one_that_stays_away_is_named(stack: Stack, trivet: Tool) -> None:
    stack.parts["runner"].kill()
    with trivet.open("ps") as ps:
        ps.until(b"no answer yet from the runner in", err=True)
        stack.parts["runner"].start()
        assert ps.end() == 0
    stack.parts["runner"].kill()
    assert trivet("kill", "t").returncode == 2
    refused = trivet("ps")
    assert refused.returncode == 2
    assert "runner-admin.sock: nobody listens: the runner has ended; start it" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_frozen_runner_is_told_from_one_that_is_gone(stack: Stack, trivet: Tool) -> None:
    stack.parts["runner"].send(signal.SIGSTOP)
    refused = trivet("ps")
    stack.parts["runner"].send(signal.SIGCONT)
    assert refused.returncode == 2
    assert "the runner takes connections and does not answer: it starts, or is frozen" in refused.stderr


def test_where_there_are_no_services_is_said_at_once(trivet: Tool, tmp_path: pathlib.Path) -> None:
    for directory, words in ((tmp_path, "no services here"), (tmp_path / "x", "there is no such directory")):
        refused = trivet("ps", "--run-dir", str(directory))
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[0] == f"trivet: {directory}: {words}" + (
            " (there is no runner-admin.sock)" if words == "no services here" else ""
        )
        assert "trivet up --dir DIR" in refused.stderr


def test_the_directory_may_be_that_of_trivet_up(stack: Stack, trivet: Tool) -> None:
    assert trivet("ps", "--run-dir", stack.dir).returncode == 0
    assert trivet("ps", run_dir=stack.dir).returncode == 0


def test_a_reader_that_goes_away_is_no_error(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")))
    task.wait_for("TASK_RUNNING")
    for argv in (["ps"], ["inspect", task.task_id], ["top", "--interval", "0.5s"], ["top", "--once", "--json"]):
        read, write = os.pipe()
        os.close(read)
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *argv, "--run-dir", stack.run_dir],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
        )
        os.close(write)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (1, b""), argv
