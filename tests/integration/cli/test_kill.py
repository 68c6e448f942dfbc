"""`trivet kill`: real commands against a whole stack."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.testing import MesosAgent
from tests.integration.cli.tasks_rig import Tool, shell

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


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
