"""Items 17 to 22 and 29: kills."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from tests.integration.checklist.bench import OBEDIENT, STUBBORN, UPDATE, states, terminals
from tests.integration.faults.processes import start_ticks, wait_dead

if TYPE_CHECKING:
    from tests.integration.checklist.bench import Bench
    from tests.integration.checklist.wiretap import Call


TRUE: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "true"}]}


def kill_event(task_id: str) -> executor_pb2.Event:
    event = executor_pb2.Event(type="KILL")
    event.kill.task_id.value = task_id
    return event


def test_17_a_repeated_kill_with_a_shorter_grace_shortens(bench: Bench) -> None:
    sleeper = bench.sleeper(command=STUBBORN)
    sleeper.task.kill(600)
    sleeper.task.kill(0.5)
    wait_dead(sleeper.pid, 10)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_17_a_repeated_kill_with_a_longer_grace_does_not_lengthen(bench: Bench) -> None:
    sleeper = bench.sleeper(command=STUBBORN)
    sleeper.task.kill(1)
    sleeper.task.kill(600)
    wait_dead(sleeper.pid, 10)
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_17_a_shorter_grace_counts_from_the_first_kill(bench: Bench) -> None:
    later = bench.gate()
    sleeper = bench.sleeper(command=f"trap 'sleep 4; echo later > {later.path}' TERM; while :; do sleep 0.05; done")
    sleeper.task.kill(600)
    assert later.read() == "later"
    # It is over already by its own measure: SIGKILL comes at once, and not 3.5 s after the second KILL.
    sleeper.task.kill(3.5)
    second = time.monotonic()
    wait_dead(sleeper.pid, 20)
    assert time.monotonic() - second < 3


def test_18_a_kill_for_an_unknown_task_is_answered_once_and_holds_up_nothing(bench: Bench) -> None:
    sleeper = bench.sleeper()
    refused = bench.fault(call="CALL_TYPE_UPDATE", refuse={"status": 503}, times=2)
    for _ in range(3):
        bench.tap.inject(kill_event("nobody"))
    bench.tap.wait("the answer", lambda calls: sum(_is_of(call, "nobody") for call in calls) == 3)
    assert bench.strikes(refused) == 2
    sent = bench.tap.updates_of("nobody")
    assert len({call.body for call in sent}) == 1
    [status] = terminals(sent)
    assert (status.state, status.message) == (
        mesos_pb2.TASK_KILLED,
        "Kill received for a task unknown to this executor",
    )
    # Nobody acknowledges it, so it is not in the list either.
    bench.tap.cut_stream()
    listed = bench.tap.wait_subscribes(2)[1].message.subscribe
    assert not listed.unacknowledged_updates
    bench.tap.wait_stream(bench.tap.subscribes[1])
    bench.tap.inject(kill_event("nobody"))
    coordinator = sleeper.task.coordinator()
    sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    # And the executor goes with its last task.
    wait_dead(coordinator)
    assert len(bench.tap.updates_of("nobody")) == 3


def test_18_a_launch_behind_the_kill_of_its_id_is_a_new_task(bench: Bench) -> None:
    anchor = bench.sleeper(executor="shared")
    bench.tap.inject(kill_event("t"))
    bench.tap.wait("the answer", lambda calls: any(_is_of(call, "t") for call in calls))
    task = bench.launch(TRUE, executor="shared", task_id="t")
    bench.tap.wait("its end", lambda _: "TASK_FINISHED" in states(bench.tap.updates_of("t")))
    assert task.runs()["p"][0].exit.code == 0
    anchor.task.kill()


def _is_of(call: Call, task_id: str) -> bool:
    return call.message.type == UPDATE and call.message.update.status.task_id.value == task_id


def test_18_a_kill_for_a_finished_task_does_nothing(bench: Bench) -> None:
    stays: dict[str, Any] = {"executor": "shared", "options": ["--linger", "600"]}
    over = bench.launch(TRUE, **stays)
    assert over.wait_end() == "TASK_FINISHED"
    bench.tap.inject(kill_event(over.task_id))
    sleeper = bench.sleeper(**stays)
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates_of(over.task_id))[-1] == "TASK_FINISHED"


def test_19_a_kill_before_anything_was_spawned(bench: Bench) -> None:
    gate = bench.gate()
    # A task that lives makes the executor known to everybody.
    anchor = bench.sleeper(executor="shared")
    runner = bench.stack.parts["runner"]
    runner.send(signal.SIGSTOP)
    task = bench.launch({"processes": [{"name": "p", "cmdline": f"echo ran > {gate.path}"}]}, executor="shared")
    assert task.kill()
    assert task.wait_end() == "TASK_KILLED"
    runner.send(signal.SIGCONT)
    # The runner has caught up: it hears of this one after the killed one.
    second = bench.launch({"processes": [{"name": "p", "cmdline": f"echo next > {gate.path}"}]}, executor="shared")
    assert gate.read() == "next"
    assert second.wait_end() == "TASK_FINISHED"
    assert states(bench.tap.updates_of(task.task_id)) == ["TASK_KILLED"]
    assert start_ticks(anchor.pid)


def test_20_exit_status_0_after_a_kill_is_killed(bench: Bench) -> None:
    sleeper = bench.sleeper(command=OBEDIENT)
    assert sleeper.task.kill(60)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert sleeper.task.runs()["p"][0].exit.code == 0


def test_21_no_killing_without_the_capability(bench: Bench) -> None:
    sleeper = bench.sleeper(command=OBEDIENT)
    sleeper.task.kill(60)
    sleeper.task.wait_end()
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_21_one_killing_with_the_capability(bench: Bench) -> None:
    told = bench.gate()
    command = f"trap 'echo asked > {told.path}' TERM; while :; do sleep 0.05; done"
    sleeper = bench.sleeper(command=command, capabilities=("PARTITION_AWARE", "TASK_KILLING_STATE"))
    sleeper.task.kill(600)
    assert told.read() == "asked"
    sleeper.task.wait_for("TASK_KILLING")
    sleeper.task.kill(0.1)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]


@pytest.mark.parametrize("turn", range(3))
def test_22_one_terminal_status_when_health_kill_and_exit_race(bench: Bench, turn: int) -> None:
    gate, alarm = bench.gate(), f"{bench.stack.dir}/alarm"
    # The task ends by itself, its check fails, and a KILL comes, all at the moment when the file appears.
    definition = {
        "task": {"processes": [{"name": "p", "cmdline": f"echo up > {gate.path}; until test -e {alarm}; do :; done"}]},
        "health_check_config": {
            "health_checker": {"shell": {"shell_command": f"test ! -e {alarm}"}},
            "interval_secs": 0.1,
            "initial_interval_secs": 0,
            "timeout_secs": 5,
        },
    }
    # Something that lives holds the executor, so that what comes late is seen.
    anchor = bench.sleeper(executor="shared")
    task = bench.launch(definition, executor="shared")
    gate.read()
    task.wait_for("TASK_RUNNING")
    if turn == 0:
        task.kill()
    with open(alarm, "w"):
        pass
    if turn == 1:
        task.kill()
    task.wait_end()
    if turn == 2:
        task.kill()
    bench.launch(TRUE, executor="shared").wait_end()
    anchor.task.kill()
    anchor.task.wait_end()
    sent = bench.tap.updates_of(task.task_id)
    assert len(terminals(sent)) == 1
    assert states(sent)[-1] == mesos_pb2.TaskState.Name(terminals(sent)[0].state)


def test_29_the_kills_grace_goes_before_the_tasks(bench: Bench) -> None:
    sleeper = bench.sleeper(command=STUBBORN, kill_grace=600)
    sleeper.task.kill(0.2)
    wait_dead(sleeper.pid, 10)
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_29_the_tasks_grace_holds_when_the_kill_has_none(bench: Bench) -> None:
    sleeper = bench.sleeper(command=STUBBORN, kill_grace=1)
    began = time.monotonic()
    sleeper.task.kill()
    wait_dead(sleeper.pid, 10)
    assert time.monotonic() - began > 0.9
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_29_a_grace_of_0_kills_at_once(bench: Bench) -> None:
    told = bench.gate()
    sleeper = bench.sleeper(command=f"trap 'echo asked > {told.path}' TERM; while :; do sleep 0.05; done")
    sleeper.task.kill(0)
    wait_dead(sleeper.pid, 1)
    assert sleeper.task.wait_end() == "TASK_KILLED"


def test_29_the_whole_tree_is_asked_and_then_killed(bench: Bench) -> None:
    child = bench.gate()
    stubborn_child = f"(trap '' TERM; echo $BASHPID > {child.path}; while :; do sleep 1; done) &"
    sleeper = bench.sleeper(command=f"{stubborn_child} wait")
    pid = int(child.read())
    sleeper.task.kill(1)
    wait_dead(sleeper.pid, 10)
    wait_dead(pid, 10)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert not os.path.exists(f"/proc/{pid}")
