"""How long an executor without tasks stays, and what comes in its last moment."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, framed, launch
from tests.integration.faults.launched import LaunchedTask
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., ExecutorUnderTest]

TRUE = json.dumps({"processes": [{"name": "p", "cmdline": "true"}]}).encode()
LIVE = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


@pytest.fixture
def services() -> Iterator[Stack]:
    """The three services, without an agent."""
    stack = Stack(with_agent=False)
    yield stack
    stack.close()


@pytest.fixture
def agent() -> Iterator[AgentDouble]:
    double = AgentDouble()
    yield double
    double.close()


@pytest.fixture
def start(services: Stack, agent: AgentDouble) -> Iterator[Start]:
    started: list[ExecutorUnderTest] = []

    def go(*options: str) -> ExecutorUnderTest:
        started.append(ExecutorUnderTest(agent, services.dir, services.run_dir, *options))
        agent.next_subscribe()
        return started[-1]

    yield go
    for executor in started:
        executor.stop()


def test_by_default_it_goes_with_its_last_task(start: Start, agent: AgentDouble) -> None:
    executor = start()
    agent.send(launch("t", TRUE))
    assert agent.next_states(3) == LIVE
    assert executor.wait() == 0


def test_it_stays_for_the_time_that_was_set(start: Start, agent: AgentDouble) -> None:
    executor = start("--linger", "1.5")
    agent.send(launch("t", TRUE))
    assert agent.next_states(3) == LIVE
    began = time.monotonic()
    # One that comes meanwhile begins the time anew.
    agent.send(launch("u", TRUE))
    assert agent.next_states(3) == LIVE
    assert executor.wait() == 0
    assert time.monotonic() - began >= 1.5


def test_a_short_linger_does_not_drive_it_away_before_its_first_task(start: Start, agent: AgentDouble) -> None:
    executor = start("--linger", "0.1")
    # The agent makes room for a task before it sends it: much longer than the executor would linger.
    threading.Event().wait(1.5)
    agent.send(launch("t", TRUE))
    assert agent.next_states(3) == LIVE
    assert executor.wait() == 0


def test_a_launch_that_waits_while_the_time_runs_out_is_taken(start: Start, agent: AgentDouble) -> None:
    executor = start("--linger", "1")
    agent.send(launch("t", TRUE))
    assert agent.next_states(3) == LIVE
    driver = wait_until(lambda: LaunchedTask._driver(executor.process.pid), "a driver")
    os.kill(driver, signal.SIGSTOP)
    agent.send(launch("u", TRUE))
    # Longer than it lingers: when it wakes, both are due.
    threading.Event().wait(1.5)
    os.kill(driver, signal.SIGCONT)
    assert agent.next_states(3) == LIVE
    assert executor.wait() == 0


def test_a_launch_of_which_a_part_has_come_is_waited_for(start: Start, agent: AgentDouble) -> None:
    executor = start("--linger", "1")
    agent.send(launch("t", TRUE))
    assert agent.next_states(3) == LIVE
    event = framed(launch("u", TRUE).SerializeToString())
    agent.send_raw(event[:40])
    threading.Event().wait(2.0)
    assert executor.process.poll() is None
    agent.send_raw(event[40:])
    assert agent.next_states(3) == LIVE
    assert executor.wait() == 0
