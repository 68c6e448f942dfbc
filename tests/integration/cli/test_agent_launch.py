"""`trivet launch` with all that can be launched, and `--watch`: real processes, a foreign executor."""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import TYPE_CHECKING

import pytest

from services.local_agent.client.connection import AgentClient
from tests.integration.cli.agent_rig import EXECUTOR, FOREIGN_DIR, RUNNING, Rig, next_state, running_agent, states
from tests.integration.cli.rig import SECS, directory, example
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_agent() as rig:
        yield rig


def test_launch_and_watch_a_foreign_executor_to_its_end(rig: Rig) -> None:
    done = rig("launch", "--executor", EXECUTOR, "--task-data", "-", "--watch", stdin=f"{RUNNING} TASK_FINISHED")
    assert (done.returncode, done.stderr) == (0, "")
    assert states(done.stdout) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    task, sandbox = (line.partition(" ")[2] for line in done.stdout.splitlines()[:2])
    assert task.startswith("obedient-executor-py-")
    assert "TASK_FINISHED 202" in pathlib.Path(sandbox, "stdout").read_text()


def test_a_failed_task_gives_status_1_and_the_place_of_the_output(rig: Rig) -> None:
    done = rig("launch", "--task-data", "-", "--watch", "--", *EXECUTOR.split(), stdin=f"{RUNNING} TASK_FAILED")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"its output: {done.stdout.splitlines()[1].split()[1]} (stdout, stderr)"


def test_an_executor_that_dies_gives_the_agents_own_status(rig: Rig) -> None:
    done = rig("launch", "--executor", EXECUTOR, "--task-data", "-", "--watch", "--json", stdin="TASK_RUNNING quit")
    assert done.returncode == 1
    launched, running, failed, end = map(json.loads, done.stdout.splitlines())
    assert launched["type"] == "launched"
    assert running["state"] == "TASK_RUNNING"
    assert (failed["state"], failed["source"]) == ("TASK_FAILED", "SOURCE_AGENT")
    assert failed["reason"] == "REASON_EXECUTOR_TERMINATED"
    assert launched["failure"] is None
    assert end == {
        "type": "end",
        "state": "TASK_FAILED",
        "sandbox": launched["sandbox"],
        "exit_code": 7,
        "exit_signal": None,
    }


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo hello; echo 'first\nboom' >&2; exit 7", ["the executor has ended, exit 7", "last on its stderr: boom"]),
        ("kill -9 $$", ["the executor has ended, SIGKILL"]),
    ],
)
def test_the_end_of_an_executor_is_told_with_its_last_words(rig: Rig, command: str, words: list[str]) -> None:
    done = rig("launch", "--shell", "--executor", command, "--watch")
    assert done.returncode == 1
    sandbox = done.stdout.splitlines()[1].split()[1]
    assert done.stdout.splitlines()[3:] == [*words, f"its output: {sandbox} (stdout, stderr)"]
    # Who watches later hears the same.
    later = rig("watch", done.stdout.splitlines()[0].split()[1])
    assert later.stdout.splitlines()[1:] == done.stdout.splitlines()[3:]


def test_what_the_agent_has_refused_is_told_at_the_end(rig: Rig) -> None:
    done = rig("launch", "--executor", EXECUTOR, "--task-data", "-", "--watch", stdin="TASK_NONSENSE TASK_RUNNING quit")
    assert done.returncode == 1
    (refused,) = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert re.fullmatch(r"refused: POST /api/v1/executor: 400 .*TASK_NONSENSE.*", refused), refused


@pytest.mark.parametrize("flags", [(), ("--watch",)])
def test_an_executor_that_cannot_be_started_is_a_failure_of_launch(rig: Rig, flags: tuple[str, ...]) -> None:
    done = rig("launch", "--executor", "nope", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("trivet: not launched: ")
    assert "No such file or directory: 'nope'" in done.stderr


def test_a_draining_agent_takes_no_task(rig: Rig) -> None:
    client = AgentClient(f"{rig.work_dir}/agent.sock")
    launched = rig.launch(f"deaf {RUNNING}")
    with rig.open("watch", launched["task_id"]) as watch:
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        watch.terminate()
    client.ask("DrainAgent", agent_pb2.DrainAgentRequest())
    done = rig("launch", "--executor", EXECUTOR, "--task-id", "late")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "task late\n",
        "trivet: not launched: Agent is draining\n",
    )
    client.close()


def test_a_task_info_file_with_its_own_executor(rig: Rig, tmp_path: pathlib.Path) -> None:
    command = {"value": f"exec {sys.executable} {FOREIGN_DIR}/obedient_executor.py"}
    executor = {"executor_id": {"value": "by-hand"}, "command": command}
    info = {"task_id": {"value": "t1"}, "executor": executor, "data": "VEFTS19GSU5JU0hFRA=="}
    path = tmp_path / "task.json"
    path.write_text(json.dumps(info))
    for _ in range(2):
        # The second time, too: the end of the first is not taken for its own.
        done = rig("launch", str(path), "--watch")
        assert (done.returncode, done.stderr) == (0, "")
        assert states(done.stdout) == ["TASK_FINISHED"]


def test_a_task_info_without_executor_takes_that_of_the_command_line(rig: Rig, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "task.json"
    path.write_text('{"task_id": {"value": "t2"}, "data": "VEFTS19GSU5JU0hFRA=="}')
    assert "executor: missing" in rig("launch", str(path)).stderr
    done = rig("launch", str(path), "--executor", EXECUTOR, "--watch")
    assert (done.returncode, states(done.stdout)) == (0, ["TASK_FINISHED"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not a TaskInfo"),
        ('{"task_id": {"value": "x"}, "colour": 1}', 'no field named "colour"'),
        ('{"task_id": {"value": 1}}', "task_id"),
        ('{"task_id": {}}', "task_id.value: missing"),
        ('{"task_id": {"value": "a/b"}}', "INVALID_ARGUMENT: task.task_id: 'a/b' is not an id"),
    ],
)
def test_a_bad_task_info_is_refused_by_name(rig: Rig, tmp_path: pathlib.Path, text: str, complaint: str) -> None:
    path = tmp_path / "task.json"
    path.write_text(text)
    done = rig("launch", str(path), "--executor", EXECUTOR)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_task_of_thermos_runs_with_trivets_own_executor(rig: Rig) -> None:
    bare = rig("launch", example("hello"))
    assert bare.returncode == 2
    assert "trivet up --dir DIR" in bare.stderr
    with directory() as stack, rig.open("up", "--dir", stack) as up:
        assert up.stdout is not None
        assert any(line.startswith("logs:") for line in up.stdout)
        done = rig("launch", example("hello"), "--services", stack, "--watch")
        up.terminate()
        up.communicate(timeout=SECS)
    assert (done.returncode, done.stderr) == (0, "")
    assert states(done.stdout)[-1] == "TASK_FINISHED"


def test_framework_flags_reach_the_executor(rig: Rig) -> None:
    flags = ("--no-checkpoint", "--capability", "PARTITION_AWARE", "--env", "COLOUR=red", "--shutdown-grace", "7s")
    launched = rig.launch(RUNNING, *flags)
    with rig.open("watch", launched["task_id"]) as watch:
        assert [next_state(watch), next_state(watch)] == ["TASK_STARTING", "TASK_RUNNING"]
        watch.terminate()
    first = pathlib.Path(launched["sandbox"], "stdout").read_text().splitlines()[0]
    subscribed = json.loads(first)["subscribed"]
    assert subscribed["framework_info"]["checkpoint"] is False
    assert subscribed["framework_info"]["capabilities"] == [{"type": "PARTITION_AWARE"}]
    assert subscribed["executor_info"]["shutdown_grace_period"] == {"nanoseconds": 7_000_000_000}
    variables = {v["name"]: v["value"] for v in subscribed["executor_info"]["command"]["environment"]["variables"]}
    assert variables["COLOUR"] == "red"
    refused = rig("launch", "--executor", EXECUTOR, "--capability", "FLYING")
    assert refused.returncode == 2
    assert "capability 'FLYING': there is no such thing" in refused.stderr
