"""A task that an operator gives up, through all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.faults.processes import TIMEOUT, wait_dead
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def test_a_task_that_is_given_up_is_killed_at_once_skips_its_finalizers_and_is_lost(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch(
        {
            "processes": [
                {"name": "deaf", "cmdline": f"trap '' TERM; echo $$ > {gate.path}; while :; do sleep 0.1; done"},
                {"name": "last", "cmdline": f"touch {stack.dir}/finalized", "final": True},
            ],
            "finalization_wait": 600,
        }
    )
    pid = int(gate.read())
    task.wait_for("TASK_RUNNING")
    stub = runner_pb2_grpc.RunnerServiceStub(stack.channel("runner-admin"))
    request = runner_pb2.LoseTaskRequest(task_id=task.task_id)
    assert stub.LoseTask(request, timeout=TIMEOUT).state.message == "Given up by an operator"
    wait_dead(pid)
    # The framework of the local agent is partition-aware: LOST is not for it.
    assert task.wait_end() == "TASK_FAILED"
    assert task.statuses[-1].message == "Given up by an operator"
    assert set(task.runs()) == {"deaf"}
