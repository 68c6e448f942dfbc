"""Items 5 to 11: subscribing, and losing the agent."""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.checklist.bench import states, terminals
from tests.integration.checklist.test_shutdowns import exit_status
from tests.integration.faults.processes import start_ticks, wait_dead

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.checklist.bench import Bench

TRUE = {"processes": [{"name": "p", "cmdline": "true"}]}


def lose_stream(bench: Bench) -> None:
    """The agent cuts the newest stream, in the middle of an event."""
    strike = bench.fault(event="EVENT_TYPE_MESSAGE", cut={"afterBytes": 3}, times=1)
    executor = bench.tap.subscribes[-1].message
    bench.send_message(executor.framework_id.value, executor.executor_id.value)
    bench.mend(strike)


def test_05_shutdown_as_the_first_record(bench: Bench) -> None:
    held = bench.fault(call="CALL_TYPE_SUBSCRIBE", hold={})
    task = bench.launch(TRUE)
    bench.tap.wait_subscribes(1)
    # Its only task is killed before it was delivered: there is nothing to do for this executor any more.
    task.kill()
    coordinator = task.coordinator()
    bench.mend(held)
    wait_dead(coordinator)
    assert task.wait_end() == "TASK_KILLED"
    # By itself, and not by the agent's SIGKILL after the grace period.
    assert exit_status(task) == 0
    assert len(bench.tap.subscribes) == 1
    assert not bench.tap.updates


@pytest.mark.parametrize(("number", "status"), [("06", 503), ("07", 404)])
def test_06_07_subscribe_is_tried_again_after_503_and_404(bench: Bench, number: str, status: int) -> None:
    bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": status}, times=5)
    task = bench.launch(TRUE)
    assert task.wait_end() == "TASK_FINISHED"
    at = [call.at for call in bench.tap.subscribes]
    assert len(at) == 6
    # No backing off: the whole takes as long as six attempts do, the last as long as the first. Virtual time holds the
    # second to the millisecond; here a busy machine has its say.
    assert max(later - earlier for earlier, later in itertools.pairwise(at)) < 5


def test_08_tasks_are_killed_when_subscribe_is_answered_400(bench: Bench) -> None:
    sleeper = bench.sleeper()
    coordinator = sleeper.task.coordinator()
    bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": 400})
    lose_stream(bench)
    wait_dead(sleeper.pid, 10)
    wait_dead(coordinator, 10)
    assert exit_status(sleeper.task) == 1
    # The same bytes would be refused again.
    assert len(bench.tap.subscribes) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_09_a_forbidden_first_subscribe_ends_the_executor(bench: Bench, status: int) -> None:
    bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": status})
    task = bench.launch(TRUE)
    assert exit_status(task) == 1
    assert len(bench.tap.subscribes) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_09_tasks_are_killed_when_subscribe_is_forbidden(bench: Bench, status: int) -> None:
    sleeper = bench.sleeper()
    bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": status})
    lose_stream(bench)
    wait_dead(sleeper.pid, 10)
    assert exit_status(sleeper.task) == 1


def test_09_an_update_answered_403_makes_the_executor_subscribe_again(bench: Bench) -> None:
    bench.fault(call="CALL_TYPE_UPDATE", refuse={"status": 403}, times=1)
    task = bench.launch(TRUE)
    assert task.wait_end() == "TASK_FINISHED"
    assert len(bench.tap.subscribes) == 2
    assert task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


def test_10_a_lost_stream_with_checkpointing_changes_nothing(bench: Bench) -> None:
    sleeper = bench.sleeper()
    ticks = start_ticks(sleeper.pid)
    lose_stream(bench)
    bench.tap.wait_subscribes(2)
    assert sleeper.task.kill(60)
    assert start_ticks(sleeper.pid) in {ticks, 0}
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert sleeper.task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_10_a_lost_stream_without_checkpointing_ends_tasks_and_executor(bench: Bench) -> None:
    sleeper = bench.sleeper(checkpoint=False)
    coordinator = sleeper.task.coordinator()
    lose_stream(bench)
    wait_dead(sleeper.pid, 10)
    wait_dead(coordinator, 10)
    # It does not come back.
    assert len(bench.tap.subscribes) == 1


def test_10_checkpointing_with_the_agent_away_changes_nothing(bench: Bench) -> None:
    sleeper = bench.sleeper()
    bench.restart_agent(gap=1, not_found_seconds=0.5, unavailable_seconds=0.5)
    bench.tap.wait_subscribes(2)
    bench.stack.ready("agent")
    assert sleeper.task.kill(60)
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert sleeper.task.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"]


def test_11_the_recovery_timeout_ends_tasks_and_executor(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench("--recovery-timeout", "2secs")
    sleeper = bench.sleeper()
    coordinator = sleeper.task.coordinator()
    lost = time.monotonic()
    bench.stack.parts["agent"].kill()
    wait_dead(sleeper.pid, 10)
    assert 2 <= time.monotonic() - lost < 6
    wait_dead(coordinator, 10)
    bench.stack.parts["agent"].start()
    bench.stack.ready("agent")


def test_11_an_agent_that_only_answers_503_does_not_stop_the_recovery_timeout(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench("--recovery-timeout", "2secs")
    sleeper = bench.sleeper()
    bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": 503})
    lost = time.monotonic()
    lose_stream(bench)
    wait_dead(sleeper.pid, 10)
    assert time.monotonic() - lost >= 2
    assert exit_status(sleeper.task) == 1


def test_11_time_with_a_stream_does_not_count(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench("--recovery-timeout", "4secs")
    sleeper = bench.sleeper()
    # Each turn stays below the limit, all of them together are above it.
    for turn in range(2, 8):
        refused = bench.fault(call="CALL_TYPE_SUBSCRIBE", refuse={"status": 503}, times=2)
        lose_stream(bench)
        # Two refusals and one that is taken, each time.
        taken = bench.tap.wait_subscribes(1 + 3 * (turn - 1))[-1]
        # Seen is not yet handled: the next turn's refusals are not for this one.
        bench.tap.wait_stream(taken)
        bench.mend(refused)
    assert os.path.exists(f"/proc/{sleeper.pid}")
    assert sleeper.task.kill()
    assert sleeper.task.wait_end() == "TASK_KILLED"
    assert len(terminals(bench.tap.updates)) == 1
    assert states(bench.tap.updates)[-1] == "TASK_KILLED"
