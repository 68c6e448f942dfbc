"""`trivet agent` and the other commands to it: real processes, a foreign executor."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from services.local_agent.client.connection import AgentClient, AgentError
from tests.integration.cli.agent_rig import EXECUTOR, FOREIGN_DIR, RUNNING, Rig, next_state, running_agent
from tests.integration.cli.rig import SECS, running_in
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_agent() as rig:
        yield rig


def test_trivet_agent_is_the_agent_itself(rig: Rig) -> None:
    with open(f"{rig.work_dir}/agent.json") as file:
        assert json.load(file)["pid"] == rig.process.pid
    assert rig.end(signal.SIGTERM) == 0


def test_help_of_trivet_agent_is_that_of_the_agent() -> None:
    texts = [
        subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True).stdout
        for words in (["services.cli", "agent"], ["services.local_agent"])
    ]
    assert texts[0] == texts[1]
    assert "--work-dir" in texts[0]


def test_kill_goes_to_the_executor_with_its_grace_period(rig: Rig) -> None:
    launched = rig.launch(RUNNING)
    with rig.open("watch", launched["task_id"]) as watch:
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        killed = rig("kill", launched["task_id"], "--grace", "1500ms")
        assert (killed.returncode, killed.stderr) == (0, "")
        assert next_state(watch) == "TASK_KILLED"
        assert watch.wait(SECS) == 130
    events = pathlib.Path(launched["sandbox"], "stdout").read_text()
    assert '"kill_policy": {"grace_period": {"nanoseconds": 1500000000}}' in events


def test_a_kill_that_is_not_sent_says_why_and_gives_status_1(rig: Rig) -> None:
    launched = rig.launch(f"{RUNNING} TASK_FINISHED")
    assert rig("watch", launched["task_id"]).returncode == 0
    killed = rig("kill", launched["task_id"], "nobody")
    assert killed.returncode == 1
    over, unknown = killed.stderr.splitlines()
    assert "no KILL sent: the task is over" in over
    assert unknown == "trivet: nobody: no task of this id was ever launched here"


def test_watch_goes_on_over_a_crash_of_the_agent(rig: Rig) -> None:
    launched = rig.launch(RUNNING)
    with rig.open("watch", "--json", launched["task_id"]) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert [json.loads(watch.stdout.readline())["state"] for _ in range(2)] == ["TASK_STARTING", "TASK_RUNNING"]
        restarted = rig("agent-restart", "--kill", "--gap", "200ms")
        assert (restarted.stdout, restarted.stderr) == ("the agent is back, and has recovered\n", "")
        assert watch.stderr.readline() == "trivet: the agent is away, waiting for it\n"
        rig.until_ready()
        # This executor does not subscribe again: the agent ends it after the re-registration window.
        rest = [json.loads(line) for line in watch.stdout]
        assert [(line["type"], line["state"]) for line in rest] == [("status", "TASK_FAILED"), ("end", "TASK_FAILED")]
        assert rest[1]["sandbox"] == launched["sandbox"]
        assert watch.wait(SECS) == 1


def test_watch_goes_on_with_a_new_process_of_the_agent(rig: Rig) -> None:
    launched = rig.launch(RUNNING)
    with rig.open("watch", launched["task_id"]) as watch:
        assert watch.stderr is not None
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        old = rig.process
        rig.end(signal.SIGTERM)
        assert {watch.stderr.readline() for _ in range(3)} == {
            f"trivet: the agent (process {old.pid}) has ended; its log, on its stderr, says why\n",
            "trivet: nobody listens; waiting 30 s for an agent\n",
            "trivet: the agent is away, waiting for it\n",
        }
        rig.start()
        assert next_state(watch) == "TASK_FAILED"
        assert watch.wait(SECS) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_watch_ends_when_the_agent_has_gone_for_good(rig: Rig, number: signal.Signals) -> None:
    launched = rig.launch(RUNNING)
    (executor,) = rig("executors", "--json").stdout.splitlines()
    fd = os.pidfd_open(json.loads(executor)["pid"])
    # The command, with less patience.
    argv = ["watch", "--agent", rig.work_dir, launched["task_id"]]
    program = (
        "import sys; from services.local_agent.client import connection; from services.cli import __main__\n"
        f"connection.AgentClient.__init__.__kwdefaults__['patience'] = 0.3; sys.exit(__main__.main({argv!r}))"
    )
    watch = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=FOREIGN_DIR.parents[1],
    )
    try:
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        rig.end(number)
        _, errors = watch.communicate(timeout=SECS)
    finally:
        watch.kill()
        watch.wait()
    assert watch.returncode == 2
    assert f"trivet: the agent (process {rig.process.pid}) has ended; its log, on its stderr, says why\n" in errors
    assert "trivet: nobody listens; waiting 0.3 s for an agent\n" in errors
    assert errors.splitlines()[-1].startswith("trivet: UNAVAILABLE: the agent has ended, and none has come")
    # It has outlived its agent.
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    assert readable(fd, SECS)
    os.close(fd)


def test_a_restart_need_not_be_waited_for(rig: Rig) -> None:
    restarted = rig("agent-restart", "--gap", "100ms", "--no-wait")
    assert restarted.stdout == "the agent ends now and comes back after 0.1 s\n"
    rig.until_ready()
    refused = rig("agent-restart", "--gap", "10weeks")
    assert refused.returncode == 2
    assert "INVALID_ARGUMENT: gap_seconds" in refused.stderr


def test_ctrl_c_ends_the_watching_and_not_the_task(rig: Rig) -> None:
    launched = rig.launch(RUNNING)
    with rig.open("watch", launched["task_id"]) as watch:
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate(timeout=SECS)
    assert watch.returncode == 130
    assert f"trivet kill {launched['task_id']}" in errors
    rows = rig("executors", "--json").stdout.splitlines()
    assert [json.loads(row)["task_ids"] for row in rows] == [[launched["task_id"]]]


def test_executors_as_a_table(rig: Rig) -> None:
    assert rig("executors").stdout == "no executors\n"
    launched = rig.launch(RUNNING, "--executor-id", "mine")
    head, row = rig("executors").stdout.splitlines()
    assert head.split() == ["EXECUTOR", "STATE", "PID", "TASKS", "FRAMEWORK", "SANDBOX"]
    columns = row.split()
    assert columns[0] == "mine"
    assert columns[3:] == [launched["task_id"], launched["framework_id"], launched["sandbox"]]


def test_faults_are_added_listed_and_removed(rig: Rig) -> None:
    assert rig("fault", "list").stdout == "no faults\n"
    added = rig("fault", "add", "update refuse=503 times=2")
    assert added.returncode == 0, added.stderr
    words = rig("fault", "add", "update", "delay=500ms", "executor=nobody")
    done = rig(
        "launch", "--executor", EXECUTOR, "--task-data", "-", "--watch", "--json", stdin=f"{RUNNING} TASK_FINISHED"
    )
    # This executor does not send an update again that was refused.
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()[1:]] == ["TASK_FINISHED"] * 2
    rows = [json.loads(line) for line in rig("fault", "list", "--json").stdout.splitlines()]
    assert [row["id"] for row in rows] == [added.stdout.strip(), words.stdout.strip()]
    assert (rows[0]["strikes"], rows[0]["state"], rows[0]["fault"]) == (2, "used up", "update refuse=503 times=2")
    assert rows[1]["fault"] == "update delay=500ms executor=nobody"
    assert rig("fault", "list").stdout.splitlines()[0].split() == ["ID", "MATCHES", "STRIKES", "HELD", "STATE", "FAULT"]
    assert rig("fault", "remove", rows[0]["id"]).stdout.split() == [rows[0]["id"]]
    assert rig("fault", "remove").stdout.split() == [rows[1]["id"]]
    assert rig("fault", "list").stdout == "no faults\n"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["fault", "add", "update refuse=99"], "refuse=99"),
        (["fault", "add", "moon lose"], "moon"),
        (["fault", "remove", "nothing"], "NOT_FOUND"),
        (["watch", "nobody"], "NOT_FOUND: task_id: no task 'nobody'"),
        (["launch", "--executor", ""], "nothing to execute"),
        (["launch", "--executor", "'"], "No closing quotation"),
        (["launch", "missing.json"], "missing.json: No such file"),
        (["launch", "--executor", "x", "--cpus", "-1"], "--cpus: '-1' is not an amount"),
        (["launch", "--executor", "x", "--mem", "nan"], "--mem: 'nan' is not an amount"),
        (["launch", "--executor", "x", "--colour"], "trivet launch: unrecognized arguments: --colour (see --help)"),
    ],
)
def test_what_the_agent_cannot_do_is_said_with_its_name(rig: Rig, argv: list[str], complaint: str) -> None:
    done = rig(*argv)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.startswith("trivet")
    assert len(done.stderr.splitlines()) == 1


def test_without_an_agent_it_is_said_what_to_do(rig: Rig) -> None:
    for name, words in (
        (rig.root, "no agent here"),
        (f"{rig.root}/nowhere", "no such directory"),
        (f"{rig.work_dir}/agent.json", "neither a directory nor a socket"),
    ):
        done = rig("executors", "--agent", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    for name in (rig.work_dir, f"{rig.work_dir}/agent.sock"):
        assert rig("executors", "--agent", name).returncode == 0
    # An agent that was killed leaves its socket behind.
    rig.process.kill()
    rig.process.wait()
    done = rig("executors")
    assert done.returncode == 2
    assert "nobody listens" in done.stderr
    assert "trivet agent --work-dir" in done.stderr


def test_a_frozen_agent_is_no_endless_wait(rig: Rig) -> None:
    client = AgentClient(f"{rig.work_dir}/agent.sock", patience=0.5)
    client.executors()
    rig.process.send_signal(signal.SIGSTOP)
    with pytest.raises(AgentError, match="is frozen") as caught:
        client.executors()
    assert caught.value.code == "DEADLINE_EXCEEDED"
    rig.process.send_signal(signal.SIGCONT)
    client.close()


def test_a_reader_that_goes_away_is_no_traceback(rig: Rig) -> None:
    launched = rig.launch(RUNNING)
    with rig.open("watch", launched["task_id"]) as watch:
        assert watch.stdout is not None
        watch.stdout.close()
        assert rig("kill", launched["task_id"]).returncode == 0
        fd = os.pidfd_open(watch.pid)
        assert readable(fd, SECS)
        os.close(fd)
        assert watch.stderr is not None
        assert watch.stderr.read() == ""
    assert not [line for line in running_in(rig.root).values() if "watch" in line]
