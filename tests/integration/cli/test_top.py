"""`trivet top`: real commands against a whole stack."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.integration.cli.tasks_rig import Tool, shell
from tests.integration.ready import readable

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def test_top_once_shows_all_tasks_sorted_and_one_task_with_its_processes(stack: Stack, trivet: Tool) -> None:
    assert trivet("top", "--once").stdout == "no tasks\n"
    gate = stack.gate()
    idle = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="a-idle")
    busy = stack.launch(shell(("spin", "while :; do :; done"), ("wait", f"read x < {gate.path}")), task_id="b-busy")
    for task in (idle, busy):
        task.wait_for("TASK_RUNNING")
    shown = trivet("top", "--once")
    assert (shown.returncode, shown.stderr) == (0, "")
    head, first, second = shown.stdout.splitlines()
    assert head.split()[:2] == ["TASK", "CPU"]
    assert first.split()[0] == "b-busy"
    assert float(first.split()[1]) > 0.2
    assert second.split()[0] == "a-idle"
    assert float(second.split()[1]) < 0.2
    by_id = trivet("top", "--once", "--sort", "task").stdout.splitlines()
    assert [line.split()[0] for line in by_id[1:]] == ["a-idle", "b-busy"]
    one = trivet("top", "--once", "b-busy").stdout.splitlines()
    assert [line.split()[0] for line in one if line] == ["TASK", "b-busy", "PROCESS", "spin", "wait"]
    said = [json.loads(line) for line in trivet("top", "--once", "--json").stdout.splitlines()]
    assert {entry["task_id"] for entry in said} == {"a-idle", "b-busy"}
    assert all(entry["usage"]["total"]["cpus"] is not None for entry in said)


def test_top_goes_on_over_a_restart_of_the_runner_and_ends_with_ctrl_c(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="t-1")
    task.wait_for("TASK_RUNNING")
    with trivet.open("top", "--interval", "0.5s") as top:
        top.until(b"\nt-1 ", count=2)
        stack.parts["runner"].kill()
        top.until(b"(the runner is away: ")
        top.until(b"no tasks")
        stack.parts["runner"].start()
        before = top.out.count(b"\nt-1 ")
        top.until(b"\nt-1 ", count=before + 2)
        assert b"\x1b" not in top.out
        assert top.interrupt() == 130
        assert top.err == b""


def test_top_of_one_task_ends_with_it(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="t-1")
    task.wait_for("TASK_RUNNING")
    with trivet.open("top", "--json", "--interval", "0.5s", "t-1") as top:
        top.until(b'"usage"')
        task.kill()
        assert top.end() == 0
    assert json.loads(top.out.splitlines()[-1])["type"] == "over"
    assert trivet("top", "--once", "t-1").stdout == "t-1: nothing is sampled: it is over, or its executor is away\n"


def test_a_terminal_shows_top_in_place(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="t-1")
    task.wait_for("TASK_RUNNING")
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "services.cli", "top", "--interval", "0.5s", "--run-dir", stack.run_dir]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "20"}
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as top:
        shown = b""
        while shown.count(b"t-1 ") < 3:
            assert readable(ours, 30.0), shown
            shown += os.read(ours, 1 << 16)
        top.send_signal(signal.SIGINT)
        while b"\x1b[?25h" not in shown:
            assert readable(ours, 30.0), shown
            shown += os.read(ours, 1 << 16)
        assert top.wait(30) == 130
        assert top.stderr is not None
        assert top.stderr.read() == b""
    os.close(ours)
    os.close(theirs)
    # The lines before are taken away again.
    assert b"\x1b[1A" in shown
