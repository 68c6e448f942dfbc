"""`trivet ps`, `inspect`, `journal`: real commands against a whole stack."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from typing import TYPE_CHECKING

from tests.integration.cli.tasks_rig import Tool, shell
from tests.integration.faults.processes import wait_until

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def test_ps_lists_what_runs_and_with_all_what_is_over(stack: Stack, trivet: Tool) -> None:
    assert trivet("ps").stdout == "no tasks (ended ones: --all)\n"
    gate = stack.gate()
    over = stack.launch(shell(("quick", "true")), task_id="over-1", executor="e-over")
    assert over.wait_end() == "TASK_FINISHED"
    order = {"constraints": [{"order": ["first", "later"]}]}
    live = stack.launch(shell(("first", f"read x < {gate.path}"), ("later", "true"), **order), task_id="live-1")
    live.wait_for("TASK_RUNNING")
    head, row = trivet("ps").stdout.splitlines()
    assert head.split() == ["TASK", "PHASE", "RUNNING", "SINCE", "ATTACHED", "EXECUTOR"]
    columns = row.split()
    assert columns[:3] == ["live-1", "ACTIVE", "1/2"]
    assert columns[4:] == ["yes", live.executor_id]
    rows = trivet("ps", "--all").stdout.splitlines()[1:]
    assert [(row.split()[0], row.split()[1]) for row in rows] == [("over-1", "SUCCESS"), ("live-1", "ACTIVE")]
    assert [row.split()[0] for row in trivet("ps", "-a", "o*-1").stdout.splitlines()[1:]] == ["over-1"]
    assert [row.split()[0] for row in trivet("ps", "-a", "--executor", "e-over").stdout.splitlines()[1:]] == ["over-1"]
    assert trivet("ps", "x*").stdout == "no task matches 'x*' (ended ones: --all)\n"
    said = [json.loads(line) for line in trivet("ps", "--all", "--json").stdout.splitlines()]
    assert [(task["task_id"], task["phase"], task["over"], task["running"], task["total"]) for task in said] == [
        ("over-1", "SUCCESS", True, 0, 1),
        ("live-1", "ACTIVE", False, 1, 2),
    ]


def test_ps_says_that_an_executor_is_away(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")))
    task.wait_for("TASK_RUNNING")
    coordinator = task.coordinator()
    driver = task.driver()
    # Nobody may start another driver.
    os.kill(coordinator, signal.SIGSTOP)
    try:
        os.kill(driver, signal.SIGKILL)
        wait_until(lambda: trivet("ps").stdout.splitlines()[1].split()[4] == "NO", "the loss of the driver")
        said = trivet("inspect", task.task_id).stdout
        assert "attached   no: its executor is away" in said
    finally:
        os.kill(coordinator, signal.SIGCONT)


def test_ps_tells_of_damaged_journals_which_journal_shows(stack: Stack, trivet: Tool) -> None:
    done = stack.launch(shell(("p", "true")))
    assert done.wait_end() == "TASK_FINISHED"
    (path,) = wait_until(lambda: list(pathlib.Path(stack.dir, "state").rglob("tasks/*.journal"))[:1], "journal")
    stack.parts["runner"].stop()
    damage(path, 30)
    stack.parts["runner"].start()
    stack.ready("runner")
    listed = trivet("ps", "--all")
    assert listed.returncode == 0
    assert f"a journal was put aside: {path}: damaged at offset " in listed.stderr
    (said,) = [json.loads(line) for line in trivet("ps", "--all", "--json").stdout.splitlines()]
    assert said["type"] == "damaged"
    shown = trivet("journal", said["path"])
    assert shown.returncode == 1
    assert f"damaged at offset {said['offset']}" in shown.stderr


def damage(path: pathlib.Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data) + b"more")


def test_inspect_shows_the_plan_with_runs_exits_times_and_usage(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(
        {
            "processes": [
                {"name": "setup", "cmdline": "exit 3", "max_failures": 2, "min_duration": 0},
                {"name": "serve", "cmdline": f"echo secret; read x < {gate.path}"},
                {"name": "after", "cmdline": "true"},
                {"name": "clean", "cmdline": "true", "final": True},
            ],
            "constraints": [{"order": ["serve", "after"]}],
            "max_failures": 0,
        }
    )
    task.wait_for("TASK_RUNNING")
    wait_until(lambda: "run 1 FAILED" in trivet("inspect", task.task_id).stdout, "two failed runs")
    said = trivet("inspect", task.task_id)
    assert (said.returncode, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert lines[0] == f"task {task.task_id}"
    for words in (
        f"sandbox    {task.sandbox}",
        "phase      ACTIVE",
        "attached   yes",
        "plan: 3 processes",
        "final: 1 process",
    ):
        assert any(words in line for line in lines), words
    (setup,) = [at for at, line in enumerate(lines) if "setup [up to 2 failed runs" in line]
    assert "run 0 FAILED exit 3 from 20" in lines[setup + 1]
    assert "run 1 FAILED exit 3 from 20" in lines[setup + 2]
    (serve,) = [at for at, line in enumerate(lines) if line.lstrip(" │").startswith(("├─ serve", "└─ serve"))]
    assert "run 0 RUNNING pid " in lines[serve + 1]
    assert " of CPU, " in lines[serve + 1]
    assert "after" in lines[serve + 2]
    assert any(line.startswith("  uses ") and "1 process" in line for line in lines)
    assert "echo secret" not in said.stdout
    whole = json.loads(trivet("inspect", "--json", task.task_id).stdout)
    assert "secret" not in json.dumps(whole)
    by_name = {process["name"]: process for process in whole["processes"]}
    assert [run["exit_code"] for run in by_name["setup"]["runs"]] == [3, 3]
    assert by_name["after"]["after"] == ["serve"]
    assert by_name["serve"]["runs"][0]["state"] == "RUNNING"
    assert whole["usage"]["total"]["rss_bytes"] > 0
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"
    wait_until(lambda: "phase      SUCCESS" in trivet("inspect", task.task_id).stdout, "the end")


def test_journals_of_services_that_run_are_shown_and_not_touched(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="t-1")
    task.wait_for("TASK_RUNNING")
    paths = list(pathlib.Path(stack.dir).rglob("*.journal"))
    kinds = set()
    for path in paths:
        before = path.read_bytes()
        shown = trivet("journal", str(path))
        assert (shown.returncode, shown.stderr) == (0, ""), path
        assert path.read_bytes() == before
        first, *rest = shown.stdout.splitlines()
        assert "task_id=t-1" in first or path.name == "tokens.journal"
        # The time is two words.
        kinds |= {line[34:].split()[0] for line in [first, *rest]}
        said = [json.loads(line) for line in trivet("journal", "--json", str(path)).stdout.splitlines()]
        assert len(said) == 1 + len(rest)
    assert {"task", "run", "check", "opened", "proposed", "tokens"} <= kinds
