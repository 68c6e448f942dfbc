"""Items 13 to 16, 23, 36: updates reach the scheduler once, whatever happens to calls and acknowledgements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.checklist.bench import states, statuses
from tests.integration.checklist.test_shutdowns import exit_status, shut_down
from tests.integration.checklist.test_subscribing import lose_stream
from tests.integration.faults.processes import wait_until
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesos.v1 import mesos_pb2
    from tests.integration.checklist.bench import Bench
    from tests.integration.checklist.wiretap import Call

TRUE = {"processes": [{"name": "p", "cmdline": "true"}]}
LIVE = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


def test_13_an_update_answered_503_is_sent_again_with_identical_bytes(bench: Bench) -> None:
    bench.fault(call="CALL_TYPE_UPDATE", refuse={"status": 503}, times=3)
    task = bench.launch(TRUE)
    assert task.wait_end() == "TASK_FINISHED"
    first = bench.tap.updates[:4]
    assert len({call.body for call in first}) == 1
    assert states(bench.tap.updates) == ["TASK_STARTING"] * 3 + LIVE
    assert task.states == LIVE


def test_13_an_update_whose_answer_is_lost_is_sent_again_with_identical_bytes(bench: Bench) -> None:
    lost = bench.fault(call="CALL_TYPE_UPDATE", lose={}, times=1)
    task = bench.launch(TRUE)
    assert task.wait_end() == "TASK_FINISHED"
    assert bench.strikes(lost) == 1
    # The scheduler sees it once, however often it was sent.
    assert task.states == LIVE
    by_uuid: dict[bytes, set[bytes]] = {}
    for call in bench.tap.updates:
        by_uuid.setdefault(call.message.update.status.uuid, set()).add(call.body)
    assert {len(bodies) for bodies in by_uuid.values()} == {1}
    assert len(by_uuid) == 3


@pytest.mark.parametrize("reset", [False, True])
def test_13_an_update_whose_connection_breaks_is_sent_again(bench: Bench, *, reset: bool) -> None:
    bench.fault(call="CALL_TYPE_UPDATE", cut={"reset": reset}, times=2)
    task = bench.launch(TRUE)
    assert task.wait_end() == "TASK_FINISHED"
    assert task.states == LIVE
    assert len({call.body for call in bench.tap.updates[:3]}) == 1


def test_13_updates_in_the_window_after_a_restart_of_the_agent_are_sent_again(make_bench: Callable[..., Bench]) -> None:
    # Much longer than a process takes to end and to be told of, on whatever machine.
    bench = make_bench("--executor-reregistration-timeout", "6secs")
    gate = bench.gate()
    sleeper = bench.sleeper(command=f"head -n1 {gate.path}")
    bench.restart_agent(gap=0.2)
    # SUBSCRIBED at once, and 503 to every UPDATE until the window is over.
    bench.tap.wait_subscribes(2)
    gate.open()
    assert sleeper.task.wait_end() == "TASK_FINISHED"
    assert sleeper.task.states == LIVE
    last = [call for call in bench.tap.updates if call.message.update.status.state == 2]
    assert bench.tap.answer_head(last[0]).startswith("HTTP/1.1 503 ")
    assert len(last) > 1
    assert len({call.body for call in last}) == 1


def unacknowledged(bench: Bench) -> tuple[list[Call], bytes]:
    """A task whose two updates are not acknowledged; returns them, and its TaskInfo as the scheduler sent it."""
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={}, taskId="t")
    infos: list[mesos_pb2.TaskInfo] = []
    bench.sleeper(task_id="t", edit=infos.append)
    return bench.tap.wait_updates(2), infos[0].data


def test_14_the_lists_hold_unacknowledged_tasks_and_updates_in_order(bench: Bench) -> None:
    sent, data = unacknowledged(bench)
    lose_stream(bench)
    listed = bench.tap.wait_subscribes(2)[1].message.subscribe
    assert [task.data for task in listed.unacknowledged_tasks] == [data]
    assert listed.unacknowledged_tasks[0].HasField("executor")
    assert [update.status for update in listed.unacknowledged_updates] == statuses(sent)
    assert states(sent) == ["TASK_STARTING", "TASK_RUNNING"]


def test_15_a_task_leaves_the_list_with_its_first_acknowledgement(bench: Bench) -> None:
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={}, taskId="t", skip=1)
    bench.sleeper(task_id="t")
    sent = bench.tap.wait_updates(2)
    lose_stream(bench)
    listed = bench.tap.wait_subscribes(2)[1].message.subscribe
    assert not listed.unacknowledged_tasks
    assert [update.status for update in listed.unacknowledged_updates] == statuses(sent)[1:]


def test_16_a_duplicate_launch_starts_once(bench: Bench) -> None:
    twice = bench.fault(event="EVENT_TYPE_LAUNCH", duplicate={})
    sleeper = bench.sleeper()
    assert bench.strikes(twice) == 1
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert {name: len(runs) for name, runs in sleeper.task.runs().items()} == {"p": 1}
    assert states(bench.tap.updates) == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_23_without_acknowledgement_the_executor_ends_within_the_shutdown_grace(bench: Bench) -> None:
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={})
    sleeper = bench.sleeper(shutdown_grace=4)
    assert 2 <= shut_down(sleeper) < 4
    # Something was not acknowledged: the agent may say so.
    assert exit_status(sleeper.task) == 1


def test_23_without_acknowledgement_the_executor_ends_after_its_failsafe(bench: Bench) -> None:
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={})
    began = time.monotonic()
    task = bench.launch(TRUE, options=["--ack-timeout", "3"])
    assert task.wait_end() == "TASK_FINISHED"
    assert exit_status(task) == 1
    assert time.monotonic() - began >= 3


def test_23_a_framework_that_is_torn_down_acknowledges_nothing(bench: Bench) -> None:
    sleeper = bench.sleeper(shutdown_grace=4)
    coordinator, framework = sleeper.task.coordinator(), sleeper.task.executor().framework_id
    began = time.monotonic()
    bench.agent.TearDown(agent_pb2.TearDownRequest(framework_id=framework), timeout=10)
    wait_until(lambda: not sleeper.task._driver(coordinator), "the driver's end")
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("away", [[], ["health"]], ids=["task is forgotten", "task is still known"])
@pytest.mark.parametrize("lost", [1, 2])
def test_36_nothing_older_is_listed_after_the_terminal_acknowledgement(
    bench: Bench, lost: int, away: list[str]
) -> None:
    # Something that lives holds the executor.
    anchor = bench.sleeper(executor="shared")
    # A driver forgets a task when every service has heard of its end.
    for name in away:
        bench.stack.parts[name].kill()
    bench.fault(event="EVENT_TYPE_ACKNOWLEDGED", lose={}, taskId="t", times=lost)
    task = bench.launch(TRUE, executor="shared", task_id="t")
    assert task.wait_end() == "TASK_FINISHED"
    # One more acknowledgement comes behind the terminal one.
    bench.launch(TRUE, executor="shared").wait_end()
    lose_stream(bench)
    listed = bench.tap.wait_subscribes(2)[1].message.subscribe
    assert "t" not in {update.status.task_id.value for update in listed.unacknowledged_updates}
    assert "t" not in {info.task_id.value for info in listed.unacknowledged_tasks}
    for name in away:
        bench.stack.parts[name].start()
    assert anchor.task.kill()
    assert anchor.task.wait_end() == "TASK_KILLED"
    assert task.states == LIVE
