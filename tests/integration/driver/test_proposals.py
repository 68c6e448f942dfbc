"""What the driver makes of proposals, between doubles of agent and reporter: nothing that harms an agent goes out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, Received, answer, kill, launch
from tests.integration.driver.reporter_double import ReporterDouble, proposal
from tests.integration.faults.stack import Stack
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


class Bench:
    """One executor with one task that sleeps."""

    def __init__(self, agent: AgentDouble) -> None:
        self.agent = agent
        self.stack = Stack(start=("runner", "health"), with_agent=False)
        self.reporter = ReporterDouble(f"unix:{self.stack.run_dir}/reporter.sock")
        self.executor = ExecutorUnderTest(self.agent, self.stack.dir, self.stack.run_dir)
        self.agent.next_subscribe()
        self.agent.send(launch("t", json.dumps({"processes": [{"name": "p", "cmdline": "exec sleep 600"}]}).encode()))
        self.key = self.reporter.keys(1)[0]

    def close(self) -> None:
        self.executor.stop()
        self.reporter.stop()
        self.agent.close()
        self.stack.close()


class Hasty(AgentDouble):
    """Its ACKNOWLEDGED comes before the 202 (Mesos: 28 of 125 updates)."""

    def _handle(self, sock: socket.socket, head: str, body: bytes) -> None:
        received = Received.of(head, body)
        if received.is_update:
            self.ack(received)
            answer(sock, 202)
            self.updates.put(received)
        else:
            super()._handle(sock, head, body)


class Silent(AgentDouble):
    """It acknowledges nothing, so the executor stays."""

    def ack(self, received: Received) -> None:
        pass


@pytest.fixture(params=[Silent])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param())
    yield made
    made.close()


def test_no_update_for_a_task_whose_launch_has_not_arrived(bench: Bench) -> None:
    ahead = link_pb2.TaskKey()
    ahead.CopyFrom(bench.key)
    ahead.task_id = "queued"
    for n, state in enumerate(("TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"), 1):
        refused = bench.reporter.ask(proposal(ahead, n, state))
        assert refused.rejection == reporter_pb2.REJECTION_UNKNOWN_TASK
    # Nor for one of another run of this executor.
    other = link_pb2.TaskKey()
    other.CopyFrom(bench.key)
    other.executor.incarnation = "other"
    assert bench.reporter.ask(proposal(other, 4, "TASK_RUNNING")).rejection == reporter_pb2.REJECTION_UNKNOWN_TASK
    # What comes to the agent first is of the task that is there.
    assert not bench.reporter.ask(proposal(bench.key, 5, "TASK_STARTING")).rejection
    assert bench.agent.next_update().call.update.status.task_id.value == "t"


def test_whatever_is_proposed_goes_out_as_mesos_wants_it(bench: Bench) -> None:
    odd = proposal(bench.key, 1, "TASK_RUNNING")
    odd.status.uuid = b"not a uuid"
    odd.status.source = mesos_pb2.TaskStatus.SOURCE_MASTER
    odd.status.agent_id.value = "another agent"
    odd.status.executor_id.value = "another executor"
    bench.reporter.ask(odd)
    status = bench.agent.next_update().call.update.status
    assert (len(status.uuid), status.uuid[6] >> 4) == (16, 4)
    assert status.source == mesos_pb2.TaskStatus.SOURCE_EXECUTOR
    assert status.executor_id.value == "E"
    assert not status.HasField("agent_id")


def test_neither_staging_nor_a_step_back_nor_a_second_end(bench: Bench) -> None:
    reporter = bench.reporter
    staging = reporter.ask(proposal(bench.key, 1, "TASK_STAGING"))
    assert staging.rejection == reporter_pb2.REJECTION_OUT_OF_ORDER
    assert not reporter.ask(proposal(bench.key, 2, "TASK_RUNNING")).rejection
    assert reporter.ask(proposal(bench.key, 3, "TASK_STARTING")).rejection == reporter_pb2.REJECTION_OUT_OF_ORDER
    # Held back until nothing of the task is left.
    reporter.propose(proposal(bench.key, 4, "TASK_FAILED"))
    bench.agent.send(kill("t", 0))
    reporter.until("accepted", 2)
    accepted = reporter.answers[-1]
    assert accepted.ref.n == 4
    # The same again gets the same answer; another one is refused with the uuid of the first.
    assert reporter.ask(proposal(bench.key, 4, "TASK_FAILED")).uuid == accepted.uuid
    second = reporter.ask(proposal(bench.key, 5, "TASK_KILLED"))
    assert (second.rejection, second.uuid) == (reporter_pb2.REJECTION_ALREADY_TERMINAL, accepted.uuid)
    assert bench.agent.next_states(2) == ["TASK_RUNNING", "TASK_FAILED"]


@pytest.mark.parametrize("bench", [Hasty], indirect=True)
def test_an_acknowledgement_may_come_before_the_answer(bench: Bench) -> None:
    bench.reporter.propose(*(proposal(bench.key, n, "TASK_RUNNING", str(n)) for n in range(1, 51)))
    bench.reporter.until("acknowledged", 50)
    sent = [bench.agent.next_update().call.update.status.message for _ in range(50)]
    assert sent == [str(n) for n in range(1, 51)]
    assert bench.agent.updates.empty()
