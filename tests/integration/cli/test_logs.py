"""`trivet logs`: real commands that read and follow what real processes write, while parts of the stack die."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.faults.processes import wait_dead, wait_until

if TYPE_CHECKING:
    from tests.integration.cli.tasks_rig import Tool
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.parts import Gate
    from tests.integration.faults.stack import Stack


def started(stack: Stack, cmdline: str, **more: Any) -> tuple[LaunchedTask, Gate]:
    """A task of one process that waits at a gate after `cmdline`."""
    gate, said = stack.gate(), stack.gate()
    line = f"{cmdline}\necho ok > {said.path}; read x < {gate.path}; echo last"
    task = stack.launch({"processes": [{"name": "p", "cmdline": line, **more}]})
    said.read()
    task.wait_for("TASK_RUNNING")
    return task, gate


def test_stdout_and_stderr_of_one_process_byte_for_byte(stack: Stack, trivet: Tool) -> None:
    task, _ = started(stack, r"printf 'one\ntwo\x1b[2J\r\n'; echo err >&2; printf end")
    shown = trivet("logs", task.task_id, "p")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "one\ntwo\x1b[2J\n\nend", "err\n") or (
        # text=True turns \r\n into \n
        (shown.returncode, shown.stdout, shown.stderr) == (0, "one\ntwo\x1b[2J\nend", "err\n")
    )
    assert trivet("logs", task.task_id).stdout == shown.stdout
    only = trivet("logs", "--stderr", task.task_id, "p")
    assert (only.stdout, only.stderr) == ("err\n", "")
    only = trivet("logs", "--stdout", "--tail", "1", task.task_id, "p")
    assert (only.stdout, only.stderr) == ("end", "")


def test_several_processes_get_prefixes_and_only_those_that_were_started(stack: Stack, trivet: Tool) -> None:
    gate, said = stack.gate(), [stack.gate() for _ in range(2)]
    wait = [f"echo ok > {each.path}; read x < {gate.path}" for each in said]
    task = stack.launch(
        {
            "processes": [
                {"name": "a", "cmdline": f"echo one; echo bad >&2; printf part; {wait[0]}"},
                {"name": "b", "cmdline": f"echo two; {wait[1]}"},
                {"name": "later", "cmdline": "true"},
            ],
            "constraints": [{"order": ["a", "later"]}],
        }
    )
    for each in said:
        each.read()
    shown = trivet("logs", task.task_id)
    assert shown.stdout == "a/0 | one\na/0 | part\nb/0 | two\n"
    assert shown.stderr == "a/0 ! bad\n"
    refused = trivet("logs", task.task_id, "later")
    assert refused.returncode == 2
    assert "process 'later' has not been started yet (-f waits for it)" in refused.stderr
    refused = trivet("logs", task.task_id, "c")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        f"trivet: {task.task_id}: no process 'c'",
        "trivet: it has: 'a', 'b', 'later'",
    ]
    refused = trivet("logs", task.task_id, "a", "--run", "7")
    assert refused.returncode == 1
    assert f"run: process 'a' of task '{task.task_id}' has no run 7" in refused.stderr


def test_following_ends_with_the_task(stack: Stack, trivet: Tool) -> None:
    task, gate = started(stack, "echo first")
    with trivet.open("logs", "-f", task.task_id) as logs:
        logs.until(b"first\n")
        gate.open()
        assert logs.end() == 0
        assert (logs.out, logs.err) == (b"first\nlast\n", b"")
    assert task.wait_end() == "TASK_FINISHED"


def test_following_goes_on_with_later_processes_and_later_runs(stack: Stack, trivet: Tool) -> None:
    gates = [stack.gate() for _ in range(3)]
    first = f"echo run; read x < {gates[0].path}; echo failed; exit 1"
    task = stack.launch(
        {
            "processes": [
                {"name": "again", "cmdline": first, "max_failures": 2, "min_duration": 0},
                {"name": "begin", "cmdline": f"read x < {gates[1].path}"},
                {"name": "later", "cmdline": f"echo here; read x < {gates[2].path}"},
            ],
            "constraints": [{"order": ["begin", "later"]}],
            "max_failures": 0,
        }
    )
    task.wait_for("TASK_RUNNING")
    argv = ["logs", "-f", "--stdout", task.task_id]
    with trivet.open(*argv) as all_of_it, trivet.open(*argv, "again") as one:
        all_of_it.until(b"again/0 | run\n")
        one.until(b"run\n")
        gates[0].open()
        all_of_it.until(b"again/1 | run\n")
        gates[0].open()
        all_of_it.until(b"again/1 | failed\n")
        gates[1].open()
        all_of_it.until(b"later/0 | here\n")
        one.until(b"failed\n", count=2)
        gates[2].open()
        assert (all_of_it.end(), all_of_it.err) == (0, b"")
        assert (one.end(), one.err) == (0, b"")
    assert one.out == b"run\nfailed\n" * 2
    assert all_of_it.err == b""
    assert sorted(all_of_it.out.splitlines()) == [
        b"again/0 | failed",
        b"again/0 | run",
        b"again/1 | failed",
        b"again/1 | run",
        b"later/0 | here",
    ]


def test_following_one_run_ends_with_that_run(stack: Stack, trivet: Tool) -> None:
    gates = [stack.gate() for _ in range(2)]
    line = f"[ -e done ] && exec read x < {gates[1].path}; touch done; echo zero; read x < {gates[0].path}; exit 1"
    line = line.replace("exec read", "read") + "; true"
    task = stack.launch({"processes": [{"name": "p", "cmdline": line, "max_failures": 5, "min_duration": 0}]})
    task.wait_for("TASK_RUNNING")
    with trivet.open("logs", "-f", task.task_id, "p", "--run", "0") as logs:
        logs.until(b"zero\n")
        gates[0].open()
        assert logs.end() == 0
        assert logs.out == b"zero\n"
    assert trivet("inspect", task.task_id).stdout.count("ACTIVE") == 2


@pytest.mark.parametrize("victim", ["runner", "driver"])
def test_following_neither_loses_nor_repeats_a_byte_over_a_restart(stack: Stack, trivet: Tool, victim: str) -> None:
    second = stack.gate()
    task, gate = started(stack, f"seq 2000; (read x < {second.path}; seq 2001 4000) &")
    expected = "".join(f"{number}\n" for number in range(1, 4001)).encode() + b"last\n"
    with trivet.open("logs", "-f", task.task_id, "p") as logs:
        logs.until(b"\n2000\n")
        if victim == "runner":
            stack.parts["runner"].kill()
            logs.until(b"waiting for it", err=True)
            second.open()
            stack.parts["runner"].start()
            stack.ready("runner")
        else:
            pid = task.driver()
            os.kill(pid, signal.SIGKILL)
            wait_dead(pid)
            second.open()
            logs.until(b"waiting for it", err=True)
        logs.until(b"\n4000\n")
        gate.open()
        assert logs.end() == 0
        assert logs.out == expected
        assert b"Traceback" not in logs.err


def test_a_log_that_is_cut_off_is_said(stack: Stack, trivet: Tool) -> None:
    cut = stack.gate()
    task, gate = started(stack, f"echo a long first line; (read x < {cut.path}; : > .logs/p/0/stdout; echo new) &")
    with trivet.open("logs", "-f", task.task_id, "p") as logs:
        logs.until(b"first line\n")
        cut.open()
        logs.until(b"new\n")
        gate.open()
        assert logs.end() == 0
    assert logs.out == b"a long first line\nnew\nlast\n"
    assert logs.err == b"trivet: p/0 stdout: it was cut off: reading goes on at its beginning\n"


def test_ctrl_c_ends_the_following_and_not_the_task(stack: Stack, trivet: Tool) -> None:
    task, gate = started(stack, "echo first")
    with trivet.open("logs", "-f", task.task_id) as logs:
        logs.until(b"first\n")
        assert logs.interrupt() == 130
        assert logs.err == b""
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def test_a_reader_that_goes_away_is_no_error(stack: Stack, trivet: Tool) -> None:
    more = stack.gate()
    task, _ = started(stack, f"echo first; (read x < {more.path}; echo second) &")
    with trivet.open("logs", "-f", task.task_id, "p") as logs:
        logs.until(b"first\n")
        assert logs.process.stdout is not None
        logs.process.stdout.close()
        more.open()
        assert logs.process.wait(30) == 1
        assert logs.process.stderr is not None
        assert logs.process.stderr.read() == b""


def test_the_logs_of_a_task_whose_executor_is_gone_are_said_to_be_on_the_host(stack: Stack, trivet: Tool) -> None:
    task, gate = started(stack, "echo first")
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"
    refused = wait_until(lambda: _refused(trivet, task), "the executor's end")
    assert refused.returncode == 1
    assert refused.stderr.endswith(f"in {task.sandbox}/sandbox/.logs\n")
    assert os.path.isdir(f"{task.sandbox}/sandbox/.logs")


def _refused(trivet: Tool, task: LaunchedTask) -> subprocess.CompletedProcess[str] | None:
    done = trivet("logs", task.task_id)
    return done if done.returncode else None


def test_a_process_without_files_is_only_said_when_it_is_asked_for(stack: Stack, trivet: Tool) -> None:
    task, _ = started(stack, "echo x", logger={"destination": "none"})
    shown = trivet("logs", task.task_id)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")
    refused = trivet("logs", "--stdout", task.task_id, "p")
    assert refused.returncode == 1
    assert "no such file" in refused.stderr


def test_a_terminal_gets_colours_and_no_control_sequences_of_the_task(stack: Stack, trivet: Tool) -> None:
    gate, said = stack.gate(), [stack.gate() for _ in range(2)]
    wait = [f"echo ok > {each.path}; read x < {gate.path}" for each in said]
    task = stack.launch(
        {
            "processes": [
                {"name": "a", "cmdline": rf"printf '\x1b]0;title\x07\x1b[31mred\x1b[0m\n'; {wait[0]}"},
                {"name": "b", "cmdline": wait[1]},
            ]
        }
    )
    for each in said:
        each.read()
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "services.cli", "logs", "--run-dir", stack.run_dir, task.task_id]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, env=environment) as logs:
        os.close(theirs)
        assert logs.wait(30) == 0
    shown = os.read(ours, 4096)
    os.close(ours)
    assert shown == b"\x1b[36ma/0 |\x1b[0m ?]0;title?\x1b[31mred\x1b[0m\r\n"


def test_more_logs_than_an_executor_reads_at_a_time_wait_for_room(stack: Stack, trivet: Tool) -> None:
    # The executor reads 32.
    gates, said, hold = [stack.gate() for _ in range(36)], stack.gate(), stack.gate()
    processes = [
        {"name": f"p{number}", "cmdline": f"echo {number}; echo ok > {said.path}; read x < {gate.path}"}
        for number, gate in enumerate(gates)
    ]
    task = stack.launch({"processes": [{"name": "hold", "cmdline": f"read x < {hold.path}"}, *processes]})
    for _ in gates:
        said.read()
    with trivet.open("logs", "-f", "--stdout", task.task_id) as logs:
        logs.until(b"32 logs of this executor are being read", err=True)
        for gate in gates:
            gate.open()
        logs.until(b"| ", count=36)
        hold.open()
        assert logs.end() == 0
    assert sorted(logs.out.splitlines()) == sorted(b"p%d/0 | %d" % (number, number) for number in range(36))


def test_nothing_is_missing_of_runs_that_came_while_the_runner_was_asked_too_late(stack: Stack, trivet: Tool) -> None:
    step = stack.gate()
    line = f"echo run; read x < {step.path}; exit 1"
    task = stack.launch({"processes": [{"name": "p", "cmdline": line, "max_failures": 6, "min_duration": 0}]})
    task.wait_for("TASK_RUNNING")
    with trivet.open("logs", "-f", "--stdout", task.task_id) as logs:
        logs.until(b"run\n")
        logs.process.send_signal(signal.SIGSTOP)
        for number in range(1, 5):
            step.open()
            wait_until(partial(_has_run, task, number), "the next run")
        # Its stream breaks meanwhile.
        stack.restart("runner")
        logs.process.send_signal(signal.SIGCONT)
        logs.until(b"run\n", count=5)
        step.open()
        logs.until(b"run\n", count=6)
        step.open()
        assert (logs.end(), logs.out) == (0, b"run\n" * 6)


def _has_run(task: LaunchedTask, number: int) -> bool:
    return len(task.runs()["p"]) > number
