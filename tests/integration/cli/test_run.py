"""`trivet run` with the whole stack: every example ends as it should, and nothing stays behind."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.rig import (
    SECS,
    directory,
    example,
    log,
    pid_of,
    run,
    running_in,
    statuses,
    transitions,
    trivet,
)
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_RUN = [(0, "WAITING"), (0, "FORKED"), (0, "RUNNING"), (0, "SUCCESS")]


@pytest.fixture
def root() -> Iterator[str]:
    with directory() as path:
        yield path


def write_task(root: str, **task: object) -> str:
    path = os.path.join(root, "task.json")
    pathlib.Path(path).write_text(json.dumps(task))
    return path


def waiting_task(root: str, **process: object) -> str:
    """A task whose process ends well when somebody opens the FIFO ROOT/go for writing."""
    os.mkfifo(os.path.join(root, "go"))
    return write_task(root, processes=[{"name": "a", "cmdline": f"read line < {root}/go; exit 0", **process}])


def let_go(root: str) -> None:
    pathlib.Path(root, "go").write_text("go\n")


def test_hello_finishes_and_every_line_is_what_was_promised(root: str) -> None:
    cli = run(root, example("hello"))
    assert (cli.process.returncode, cli.err) == (0, "")
    assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    assert transitions(cli, "hello") == ONE_RUN
    updates = [event for event in cli.events if event["type"] == "status"]
    fields = {"type", "task_id", "state", "reason", "message", "healthy", "source", "timestamp", "uuid"}
    assert all(set(event) == fields for event in updates)
    assert {event["source"] for event in updates} == {"SOURCE_EXECUTOR"}
    assert len({uuid.UUID(event["uuid"]) for event in updates}) == 3
    assert cli.events[-1] == {"type": "end", "state": "TASK_FINISHED", "sandbox": cli.events[-1]["sandbox"]}
    assert updates[0]["task_id"] in log(cli, "hello")
    ended = next(event for event in cli.events if event["state"] == "SUCCESS")
    assert (ended["exit_code"], ended["signal"]) == (0, None)
    assert ended["pid"] > 0


def test_pipeline_keeps_its_order_and_finalizes(root: str) -> None:
    cli = run(root, example("pipeline"))
    assert cli.process.returncode == 0
    order = [(event["process"], event["state"]) for event in cli.events if event["type"] == "process"]
    for first, second in [("fetch", "sum"), ("fetch", "count"), ("sum", "report"), ("count", "report")]:
        assert order.index((first, "SUCCESS")) < order.index((second, "FORKED"))
    assert order.index(("report", "SUCCESS")) < order.index(("watcher", "KILLED")) < order.index(("cleanup", "FORKED"))
    assert transitions(cli, "cleanup") == ONE_RUN
    assert log(cli, "report") == "1000 numbers, together 500500\n"


def test_flaky_is_tried_again_until_it_succeeds(root: str) -> None:
    cli = run(root, example("flaky"))
    assert cli.process.returncode == 0
    ends = [entry for entry in transitions(cli, "flaky") if entry[1] in ("SUCCESS", "FAILED")]
    assert ends == [(0, "FAILED"), (1, "FAILED"), (2, "SUCCESS")]
    assert [log(cli, "flaky", number) for number in range(3)] == ["try 1\n", "try 2\n", "try 3\n"]


def test_failing_names_process_and_exit_status(root: str) -> None:
    cli = run(root, example("failing"))
    assert cli.process.returncode == 1
    assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]
    last = [event for event in cli.events if event["type"] == "status"][-1]
    assert "broken" in last["message"]
    assert "3" in last["message"]
    assert [e["exit_code"] for e in cli.events if e["type"] == "process" and e["state"] == "FAILED"] == [3]
    assert (0, "FORKED") not in transitions(cli, "never")
    assert log(cli, "broken", stream="stderr") == "this is going to fail\n"


def test_web_is_running_once_it_is_healthy_and_is_killed_by_an_interrupt(root: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["run", "--dir", root, "--output", "json", "--port", f"http:{port}", example("web")]
    with trivet(root, *argv) as cli:
        running = cli.until_state("TASK_RUNNING")
        assert running["healthy"] is True
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=SECS) as answer:
            assert answer.read() == b"ok"
        cli.interrupt()
        assert cli.end() == 130
    assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]
    assert cli.events[-1]["state"] == "TASK_KILLED"
    assert transitions(cli, "server")[-1] == (0, "KILLED")


def test_a_process_that_ignores_sigterm_is_killed_at_the_end_of_its_grace(root: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", example("stubborn")) as cli:
        cli.until_state("TASK_RUNNING")
        sandbox = next(pathlib.Path(root).glob("stubborn-*"))
        # The trap is set once it says so; the log is a file, so its end is watched for with tail.
        wait_for_line(sandbox / "sandbox/.logs/stubborn/0/stdout", "ready")
        cli.interrupt()
        assert cli.end() == 130
    assert "not now\n" in log(cli, "stubborn")
    assert [e["signal"] for e in cli.events if e["type"] == "process" and e["state"] == "KILLED"] == [signal.SIGKILL]


def wait_for_path(path: pathlib.Path) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        threading.Event().wait(0.005)


def wait_for_line(path: pathlib.Path, line: str) -> None:
    # tail -F waits for the file and then for its growth, without polling where there is inotify.
    with subprocess.Popen(["tail", "-F", "-n", "+1", str(path)], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert any(found.startswith(line) for found in tail.stdout)
        tail.kill()


def test_a_second_interrupt_kills_at_once(root: str) -> None:
    # Ten minutes of grace: the test would not end in time by itself.
    stubborn = {"name": "a", "cmdline": "trap '' TERM; while true; do sleep 1; done"}
    task = write_task(root, processes=[stubborn], finalization_wait=600)
    with trivet(root, "run", "--dir", root, "--output", "json", task) as cli:
        cli.until_state("TASK_RUNNING")
        cli.interrupt()
        cli.until_noted("killing the task in order")
        cli.interrupt()
        assert cli.end() == 130
    assert transitions(cli, "a")[-1] == (0, "KILLED")
    assert statuses(cli)[-1] == "TASK_KILLED"


def test_an_interrupt_while_the_stack_starts_leaves_nothing(root: str) -> None:
    # Sockets that nobody serves: the start lasts until the interrupt comes.
    absent = os.path.join(root, "absent")
    os.mkdir(absent)
    pathlib.Path(absent, "runner.sock").touch()
    argv = ["run", "--dir", root, "--output", "json", "--services", absent, example("web")]
    with trivet(root, *argv) as cli:
        wait_for_line(pathlib.Path(root, "logs/agent.log"), "trivet-agent ready")
        cli.interrupt()
        assert cli.end() == 130
    assert cli.lines == []
    assert cli.err == "trivet: interrupted before the task was launched\n"


@pytest.mark.parametrize("moment", ["run", "logs/runner.log", "run/agent.sock"])
def test_an_interrupt_while_our_own_services_start_is_one_line(root: str, moment: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", example("web")) as cli:
        wait_for_path(pathlib.Path(root, moment))
        cli.interrupt()
        assert cli.end() == 130
    assert cli.err in {"trivet: interrupted before the task was launched\n", "trivet: interrupted\n"}


@pytest.mark.parametrize(("command", "status"), [(["true"], 0), (["false"], 1)])
def test_a_command_is_a_task(root: str, command: list[str], status: int) -> None:
    assert run(root, "--", *command).process.returncode == status


def test_a_command_sees_the_users_path_and_not_the_rest_of_the_environment(root: str) -> None:
    cli = run(root, "--", "sh", "-c", 'echo "$PATH"; echo "${SECRET-unset}"', SECRET="hunter2")
    assert log(cli, "sh") == f"{os.environ['PATH']}\nunset\n"


def test_an_invalid_task_starts_nothing_and_says_what_is_wrong(tmp_path: pathlib.Path, root: str) -> None:
    task = tmp_path / "task.json"
    task.write_text('{"processes": [{"name": "a"}, {"cmdline": ""}]}')
    with trivet(root, "run", "--output", "json", str(task), TMPDIR=root) as cli:
        assert cli.end() == 2
    assert cli.err == "trivet: processes[0].cmdline: is required\ntrivet: processes[1].name: is required\n"
    assert cli.lines == []
    assert os.listdir(root) == []


def test_warnings_are_said_and_the_task_runs(root: str) -> None:
    cli = run(root, write_task(root, processes=[{"name": "a", "cmdline": "", "colour": "red"}]))
    assert cli.process.returncode == 0
    assert cli.err == "trivet: warning: processes[0].colour: unknown field, ignored\n"


def test_a_good_run_keeps_the_sandbox_and_nothing_else(root: str) -> None:
    with trivet(root, "run", "--output", "json", example("hello"), TMPDIR=root) as cli:
        assert cli.end() == 0
    (kept,) = os.listdir(root)
    assert sorted(name.split("-")[0] for name in os.listdir(os.path.join(root, kept))) == ["agent", "hello"]
    assert "hello from" in log(cli, "hello")


def test_a_failed_run_keeps_everything_and_says_where(root: str) -> None:
    with trivet(root, "run", "--output", "json", example("failing"), TMPDIR=root) as cli:
        assert cli.end() == 1
    (kept,) = os.listdir(root)
    assert cli.err == f"trivet: everything of this run is kept in {root}/{kept}\n"
    assert os.path.getsize(f"{root}/{kept}/logs/runner.log")


@pytest.mark.parametrize("part", ["services.runner", "services.health", "services.reporter", "services.local_agent"])
def test_a_part_that_is_killed_is_started_again_and_nothing_is_lost_or_doubled(root: str, part: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        pid = cli.until(lambda event: event["type"] == "process" and event["state"] == "RUNNING")["pid"]
        if statuses(cli)[-1:] != ["TASK_RUNNING"]:
            cli.until_state("TASK_RUNNING")
        os.kill(pid_of(root, part), signal.SIGKILL)
        cli.until_noted("it is started again")
        let_go(root)
        assert cli.end() == 0
    assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    assert transitions(cli, "a") == ONE_RUN
    assert {e["pid"] for e in cli.events if e["type"] == "process" and e["pid"]} == {pid}


def test_nothing_outlives_a_killed_trivet(root: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        cli.until_state("TASK_RUNNING")
        ends = {pid: os.pidfd_open(pid) for pid in running_in(root)}
        assert len(ends) >= 7, "four of the stack, coordinator, driver, process, and trivet itself"
        cli.process.kill()
        for pid, fd in ends.items():
            assert readable(fd, SECS), f"{pid} still lives"
            os.close(fd)


def test_a_reader_that_goes_away_ends_the_run_and_leaves_nothing(root: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        cli.until_state("TASK_RUNNING")
        assert cli.process.stdout is not None
        cli.process.stdout.close()
        let_go(root)
        assert cli.process.wait(SECS) == 1
        assert cli.process.stderr is not None
        assert "Traceback" not in cli.process.stderr.read()


def test_a_terminal_gets_the_live_picture(root: str) -> None:
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "services.cli", "run", "--dir", root, example("hello")]
    with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(slave)
        screen = b""
        while readable(master, SECS):
            try:
                screen += os.read(master, 65536)
            except OSError:  # the other side is closed: all is read
                break
        os.close(master)
        assert process.wait(SECS) == 0
    text = screen.decode()
    assert "SUCCESS" in text
    assert "TASK_FINISHED" in text
    assert f"{root}/hello-" in text
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"


def test_a_pipe_gets_plain_lines_with_the_place_of_the_logs(root: str) -> None:
    with trivet(root, "run", "--dir", root, example("hello")) as cli:
        assert cli.end() == 0
    text = "\n".join(cli.lines)
    assert "process hello run 0 SUCCESS exit 0" in text
    assert "status TASK_FINISHED" in text
    (path,) = [line.split(" (")[0].strip() for line in cli.lines if "hello/0/stdout" in line]
    assert pathlib.Path(path).read_text().startswith("hello from")


@pytest.mark.parametrize("part", ["services.runner", "services.health", "services.reporter"])
def test_a_frozen_service_does_not_keep_an_interrupt_from_killing_the_task(root: str, part: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        cli.until_state("TASK_RUNNING")
        os.kill(pid_of(root, part), signal.SIGSTOP)
        cli.interrupt()
        assert cli.end() == 130
    assert statuses(cli)[-1] == "TASK_KILLED"


def test_a_third_interrupt_does_not_wait_for_a_frozen_agent_and_leaves_nothing(root: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        cli.until_state("TASK_RUNNING")
        os.kill(pid_of(root, "services.local_agent"), signal.SIGSTOP)
        cli.interrupt()
        cli.until_noted("killing the task in order")
        cli.interrupt()
        cli.until_noted("killing the task at once")
        cli.interrupt()
        assert cli.end() == 130
    assert running_in(root) == {}


@pytest.mark.parametrize("moment", ["WAITING", "FORKED", "TASK_STARTING", "RUNNING", "TASK_RUNNING"])
def test_an_interrupt_at_any_moment_of_its_life_kills_the_task(root: str, moment: str) -> None:
    with trivet(root, "run", "--dir", root, "--output", "json", waiting_task(root)) as cli:
        cli.until_state(moment)
        cli.interrupt()
        assert cli.end() == 130
    assert statuses(cli)[-1] == "TASK_KILLED"
    assert [state for state in statuses(cli) if state not in ("TASK_STARTING", "TASK_RUNNING")] == ["TASK_KILLED"]
    assert (0, "SUCCESS") not in transitions(cli, "a")


def test_an_interrupt_while_final_processes_run_ends_them_and_the_outcome_stays(root: str) -> None:
    final = {"name": "last", "cmdline": "sleep 1000", "final": True}
    task = write_task(root, processes=[{"name": "a", "cmdline": "true"}, final], finalization_wait=600)
    with trivet(root, "run", "--dir", root, "--output", "json", task) as cli:
        cli.until(lambda event: event.get("process") == "last" and event["state"] == "RUNNING")
        cli.interrupt()
        cli.until_noted("killing the task in order")
        cli.interrupt()
        assert cli.end() == 0
    assert transitions(cli, "last")[-1] == (0, "KILLED")
    assert statuses(cli)[-1] == "TASK_FINISHED"
