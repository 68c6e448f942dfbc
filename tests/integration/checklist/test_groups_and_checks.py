"""Items 28 and 35: tasks with a check, and tasks that come together."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.checklist.bench import states, statuses
from tests.integration.faults.launched import LaunchedTask
from tests.integration.faults.processes import TIMEOUT, wait_dead
from tests.integration.faults.stack import framework_info
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.checklist.bench import Bench

CHECKS: dict[str, Callable[[mesos_pb2.CheckInfo], object]] = {
    "command": lambda check: setattr(check.command.command, "value", "true"),
    "http": lambda check: setattr(check.http, "port", 80),
    "tcp": lambda check: setattr(check.tcp, "port", 80),
}


def checked(kind: str) -> Callable[[mesos_pb2.TaskInfo], None]:
    def edit(info: mesos_pb2.TaskInfo) -> None:
        info.check.CopyFrom(mesos_pb2.CheckInfo(type=kind.upper()))
        CHECKS[kind](info.check)

    return edit


def process(command: str) -> dict[str, Any]:
    return {"processes": [{"name": "p", "cmdline": command}]}


@pytest.mark.parametrize("kind", CHECKS)
def test_28_check_status_is_in_every_update_of_a_task_with_a_check(bench: Bench, kind: str) -> None:
    capabilities = ("PARTITION_AWARE", "TASK_KILLING_STATE")
    told = bench.gate()
    command = f"trap 'echo asked > {told.path}; exit' TERM; while :; do sleep 0.05; done"
    sleeper = bench.sleeper(command=command, edit=checked(kind), capabilities=capabilities)
    assert sleeper.task.kill(60)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    sent = bench.tap.updates
    assert states(sent)[:2] == ["TASK_STARTING", "TASK_RUNNING"]
    for status in statuses(sent):
        assert mesos_pb2.CheckInfo.Type.Name(status.check_status.type) == kind.upper()
        # Present and empty: there is no result.
        assert [field.name for field, _ in status.check_status.ListFields()] == ["type", kind]


def test_28_check_status_is_in_statuses_that_the_driver_makes_alone(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(start=())
    task = bench.launch(process("true"), edit=checked("tcp"), options=["--service-deadline", "1"])
    assert task.wait_end() == "TASK_DROPPED"
    assert bench.tap.updates[0].message.update.status.check_status.HasField("tcp")


def test_28_check_status_is_unset_without_a_check(bench: Bench) -> None:
    bench.sleeper()
    assert not any(status.HasField("check_status") for status in statuses(bench.tap.updates))


def launch_group(bench: Bench, commands: dict[str, dict[str, Any]], *options: str) -> dict[str, LaunchedTask]:
    """Launches tasks in one LAUNCH_GROUP."""
    executor = mesos_pb2.ExecutorInfo(type="CUSTOM")
    executor.executor_id.value = "group"
    bench.stack.fill_executor(executor, options)
    bench.wire(executor)
    for name, amount in {"cpus": 0.1, "mem": 32.0, "disk": 32.0}.items():
        executor.resources.add(name=name, type="SCALAR").scalar.value = amount
    request = agent_pb2.LaunchTaskGroupRequest(
        executor=executor, framework=framework_info(checkpoint=True, capabilities=["PARTITION_AWARE"])
    )
    for task_id, definition in commands.items():
        task = request.tasks.add(name=task_id, data=json.dumps(definition).encode())
        task.task_id.value, task.agent_id.value = task_id, ""
    reply = bench.agent.LaunchTaskGroup(request, timeout=TIMEOUT)
    launched = agent_pb2.LaunchTaskResponse(framework_id=reply.framework_id, sandbox=reply.sandbox)
    return {task_id: LaunchedTask(bench.stack, task_id, "group", launched, watch=True) for task_id in commands}


def test_35_all_members_of_a_group_run(bench: Bench) -> None:
    gates = {"a": bench.gate(), "b": bench.gate()}
    tasks = launch_group(bench, {name: process(f"echo {name} > {gate.path}") for name, gate in gates.items()})
    assert {name: gate.read() for name, gate in gates.items()} == {"a": "a", "b": "b"}
    for task in tasks.values():
        assert task.wait_end() == "TASK_FINISHED"
        assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


@pytest.mark.parametrize("order", [["bad", "good", "fine"], ["good", "fine", "bad"]])
def test_35_one_invalid_member_refuses_the_whole_group(bench: Bench, order: list[str]) -> None:
    ran = f"{bench.stack.dir}/ran"
    definitions = {name: process(f"touch {ran}") for name in order}
    definitions["bad"] = {"processes": []}
    tasks = launch_group(bench, definitions)
    for name, task in tasks.items():
        assert task.wait_end() == "TASK_ERROR", name
        status = task.statuses[-1]
        assert status.reason == mesos_pb2.TaskStatus.REASON_TASK_INVALID
        if name != "bad":
            assert "Task group rejected: task 'bad'" in status.message
        # Of a refused task the only update is its end.
        assert states(bench.tap.updates_of(name)) == ["TASK_ERROR"]
    assert not os.path.exists(ran)


@pytest.mark.parametrize("victim", ["driver", "runner", "reporter"])
def test_35_a_group_is_refused_though_a_part_dies_before_it_is_decided(bench: Bench, victim: str) -> None:
    ran = f"{bench.stack.dir}/ran"
    runner = bench.stack.parts["runner"]
    anchor = bench.sleeper()
    runner.send(signal.SIGSTOP)
    tasks = launch_group(bench, {"good": process(f"touch {ran}"), "bad": {"processes": []}})
    if victim == "driver":
        driver = tasks["good"].driver()
        os.kill(driver, signal.SIGKILL)
        wait_dead(driver)
    else:
        bench.stack.parts[victim].kill()
        bench.stack.parts[victim].start()
    if victim != "runner":
        runner.send(signal.SIGCONT)
    assert {task.wait_end() for task in tasks.values()} == {"TASK_ERROR"}
    assert not os.path.exists(ran)
    assert anchor.task.kill()
    assert anchor.task.wait_end() == "TASK_KILLED"


def test_35_a_group_that_no_runner_takes_is_dropped_as_a_whole(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(start=())
    tasks = launch_group(bench, {"a": process("true"), "b": process("true")}, "--service-deadline", "1")
    assert {task.wait_end() for task in tasks.values()} == {"TASK_DROPPED"}


def test_35_a_member_that_fails_takes_its_siblings_with_it(bench: Bench) -> None:
    gate, go = bench.gate(), bench.gate()
    tasks = launch_group(
        bench,
        {"fails": process(f"head -n1 {go.path}; exit 3"), "lives": process(f"echo $$ > {gate.path}; exec sleep 600")},
    )
    pid = int(gate.read())
    tasks["lives"].wait_for("TASK_RUNNING")
    go.open()
    assert tasks["fails"].wait_end() == "TASK_FAILED"
    assert tasks["lives"].wait_end() == "TASK_KILLED"
    wait_dead(pid)
    assert "task 'fails' is TASK_FAILED" in tasks["lives"].statuses[-1].message


def test_35_a_member_that_finishes_leaves_its_siblings_alone(bench: Bench) -> None:
    gate, go = bench.gate(), bench.gate()
    tasks = launch_group(bench, {"ends": process("true"), "lives": process(f"echo up > {gate.path}; cat {go.path}")})
    assert tasks["ends"].wait_end() == "TASK_FINISHED"
    assert gate.read() == "up"
    # A KILL names one task.
    assert tasks["lives"].kill(1)
    assert tasks["lives"].wait_end() == "TASK_KILLED"
    assert tasks["ends"].states[-1] == "TASK_FINISHED"
