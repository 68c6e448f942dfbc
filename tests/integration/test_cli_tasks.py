"""`trivet ps`, `inspect`, `kill`, `top`: real commands against a whole stack."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.testing import MesosAgent
from tests.integration.cli_tasks_rig import Tool
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack
from tests.integration.ready import readable

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


def shell(*processes: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"processes": [{"name": name, "cmdline": cmdline} for name, cmdline in processes], **more}


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


def test_unknown_tasks_are_named_with_what_to_do(trivet: Tool) -> None:
    for verb in (["inspect"], ["logs"], ["logs", "-f"], ["top"], ["top", "--once"]):
        refused = trivet(*verb, "nobody")
        assert refused.returncode == 2, verb
        assert refused.stderr.splitlines() == [
            "trivet: NOT_FOUND: task_id: no task 'nobody'",
            "trivet: `trivet ps --all` lists the tasks that the runner knows",
        ]


def test_an_ambiguous_id_is_refused_and_the_executor_decides(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    # An agent has one live task of an id; two agents of a host may have one each.
    with MesosAgent.start() as other:
        first = stack.launch(shell(("p", f"echo 0; read x < {gate.path}")), task_id="twin", executor="e0")
        info = mesos_pb2.TaskInfo(name="twin", data=json.dumps(shell(("p", f"echo 1; read x < {gate.path}"))).encode())
        info.task_id.value, info.executor.executor_id.value = "twin", "e1"
        stack.fill_executor(info.executor, ())
        second = other.launch_task(info)
        first.wait_for("TASK_RUNNING")
        second.wait("TASK_RUNNING")
        _check_ambiguous(trivet)
        assert first.wait_end() == "TASK_KILLED"
        other.kill("twin")
        second.wait()


def _check_ambiguous(trivet: Tool) -> None:
    for verb in ("inspect", "logs", "kill"):
        refused = trivet(verb, "twin")
        assert refused.returncode == 2
        assert "FAILED_PRECONDITION: task_id: 'twin' runs in several executors: 'e0' of framework" in refused.stderr
        assert "say --executor ID" in refused.stderr
    assert "executor   e1 of framework" in trivet("inspect", "twin", "--executor", "e1").stdout
    assert trivet("logs", "twin", "p", "--executor", "e1").stdout == "1\n"
    killed = trivet("kill", "twin", "--executor", "e0")
    assert (killed.returncode, killed.stderr) == (0, "")
    assert [line.split()[5] for line in trivet("ps", "twin").stdout.splitlines()[1:]] == ["e1"]


def test_kill_ends_tasks_in_order_and_waits_for_them(stack: Stack, trivet: Tool) -> None:
    gates = [stack.gate() for _ in range(2)]
    tasks = [stack.launch(shell(("p", f"read x < {gate.path}"))) for gate in gates]
    for task in tasks:
        task.wait_for("TASK_RUNNING")
    killed = trivet("kill", *(task.task_id for task in tasks))
    assert (killed.returncode, killed.stderr) == (0, "")
    last = {line.split(":")[0]: line for line in killed.stdout.splitlines()}
    assert all(last[task.task_id].split()[1].rstrip(":") == "KILLED" for task in tasks)
    assert [task.wait_end() for task in tasks] == ["TASK_KILLED"] * 2
    again = trivet("kill", tasks[0].task_id)
    assert (again.returncode, again.stdout) == (0, f"{tasks[0].task_id}: was over before: KILLED\n")


def test_kill_takes_exact_ids_only_and_ends_the_others_all_the_same(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")), task_id="web-0")
    task.wait_for("TASK_RUNNING")
    for wrong in ("web-*", "web", "web-0 "):
        refused = trivet("kill", wrong)
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[0] == f"trivet: {wrong}: NOT_FOUND: task_id: no task '{wrong}'"
    assert task.states[-1] == "TASK_RUNNING"
    killed = trivet("kill", "nobody", "web-0")
    assert killed.returncode == 1
    assert task.wait_end() == "TASK_KILLED"


def test_the_grace_period_is_the_one_that_is_given(stack: Stack, trivet: Tool) -> None:
    said = stack.gate()
    task = stack.launch(
        shell(("p", f"trap 'echo term > {said.path}' TERM; echo up > {said.path}; while :; do sleep 1; done"))
    )
    assert said.read() == "up"
    with trivet.open("kill", task.task_id, "--grace", "1s") as kill:
        assert said.read() == "term"
        kill.until(b"CLEANING, 1 of 1 processes run")
        assert kill.end() == 0
    (run,) = task.runs()["p"]
    assert run.exit.signal == signal.SIGKILL


def test_a_kill_that_is_not_waited_for_and_one_that_takes_too_long(stack: Stack, trivet: Tool) -> None:
    said = stack.gate()
    task = stack.launch(shell(("p", f"trap '' TERM; echo up > {said.path}; while :; do sleep 1; done")))
    assert said.read() == "up"
    ordered = trivet("kill", task.task_id, "--grace", "1h", "--no-wait")
    assert (ordered.returncode, ordered.stdout) == (0, f"{task.task_id}: is being ended\n")
    late = trivet("kill", task.task_id, "--timeout", "200ms")
    assert late.returncode == 1
    assert "not all have ended within 0.2 s" in late.stderr
    with trivet.open("kill", task.task_id) as kill:
        kill.until(b"CLEANING")
        assert kill.interrupt() == 130
        assert b"not waiting any more" in kill.err
        assert b"Traceback" not in kill.err
    lost = trivet("kill", task.task_id, "--lose")
    assert lost.returncode == 0, lost.stderr
    assert task.wait_end() in ("TASK_KILLED", "TASK_LOST")


def test_kill_goes_on_over_a_restart_of_the_runner(stack: Stack, trivet: Tool) -> None:
    said, gate = stack.gate(), stack.gate()
    task = stack.launch(
        shell(("p", f"trap 'read x < {gate.path}; exit' TERM; echo up > {said.path}; while :; do sleep 1; done"))
    )
    assert said.read() == "up"
    with trivet.open("kill", task.task_id, "--grace", "1h") as kill:
        kill.until(b"CLEANING")
        stack.parts["runner"].kill()
        kill.until(b"the runner is away, waiting for it", err=True)
        stack.parts["runner"].start()
        stack.ready("runner")
        gate.open()
        assert kill.end() == 0
        assert kill.out.splitlines()[-1].startswith(f"{task.task_id}: KILLED".encode())


def test_kill_with_an_agent_goes_the_schedulers_way(stack: Stack, trivet: Tool) -> None:
    gate = stack.gate()
    task = stack.launch(shell(("p", f"read x < {gate.path}")))
    task.wait_for("TASK_RUNNING")
    both = trivet("kill", task.task_id, TRIVET_AGENT=f"{stack.dir}/agent")
    assert both.returncode == 2
    assert "say who shall be asked, --agent DIR or --run-dir DIR" in both.stderr
    killed = trivet("kill", task.task_id, "--agent", stack.run_dir)
    assert (killed.returncode, killed.stdout) == (0, f"{task.task_id}: KILL sent to its executor\n")
    assert task.wait_end() == "TASK_KILLED"


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
