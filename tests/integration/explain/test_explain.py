"""`ExplainTask` of a whole stack: every status has its cause before it, whatever dies meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.faults.processes import TIMEOUT, wait_until
from tests.integration.health_e2e.rig import aurora
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack
    from tests.integration.health_e2e.rig import Target

SLEEP = {"processes": [{"name": "main", "cmdline": "exec sleep 600"}]}


def explain(stack: Stack, task_id: str) -> reporter_pb2.ExplainTaskResponse:
    stub = reporter_pb2_grpc.ReporterServiceStub(stack.channel("reporter-admin"))
    request = reporter_pb2.ExplainTaskRequest(task_id=task_id)
    answer: reporter_pb2.ExplainTaskResponse = stub.ExplainTask(request, timeout=TIMEOUT, wait_for_ready=True)
    return answer


def explained_when(
    stack: Stack, task_id: str, wanted: Callable[[reporter_pb2.ExplainTaskResponse], bool]
) -> reporter_pb2.ExplainTaskResponse:
    found: list[reporter_pb2.ExplainTaskResponse] = []

    def arrived() -> bool:
        found.append(explain(stack, task_id))
        return wanted(found[-1])

    wait_until(arrived, f"that explanation of {task_id}")
    return found[-1]


def explained_end(stack: Stack, task_id: str) -> reporter_pb2.ExplainTaskResponse:
    """Once the agent has the terminal status."""
    return explained_when(stack, task_id, lambda answer: answer.over)


def texts(answer: reporter_pb2.ExplainTaskResponse) -> list[str]:
    return [event.text for event in answer.trace]


def in_order(answer: reporter_pb2.ExplainTaskResponse, *beginnings: str) -> None:
    """Events that begin so stand there in this order; others may be between."""
    rest = iter(texts(answer))
    for beginning in beginnings:
        assert any(text.startswith(beginning) for text in rest), f"{beginning!r} is missing in {texts(answer)}"


def timed(answer: reporter_pb2.ExplainTaskResponse) -> None:
    """Learned one after the other, each after it happened."""
    learned = [event.at for event in answer.trace]
    assert all(learned)
    assert learned == sorted(learned)
    # The source's clock is read before the message is made.
    assert all(event.source_at <= event.at + 0.001 for event in answer.trace)


def stubborn(stack: Stack) -> LaunchedTask:
    """A task that ignores SIGTERM, and has long to end."""
    gate = stack.gate()
    cmdline = f"trap '' TERM; echo up > {gate.path}; while :; do sleep 600; done"
    task = stack.launch({"processes": [{"name": "main", "cmdline": cmdline}]}, kill_grace=600)
    assert gate.read() == "up"
    return task


def test_a_failed_plan_is_explained_from_the_exit_to_the_acknowledgement(stack: Stack) -> None:
    task = stack.launch({"processes": [{"name": "web", "cmdline": "exit 3"}]})
    assert task.wait_end() == "TASK_FAILED"
    answer = explained_end(stack, task.task_id)
    in_order(
        answer,
        "task accepted",
        "TASK_STARTING #1 proposed",
        "process 'web' run 0 exited with status 3",
        "the plan has come to its end: process 'web' failed: exit code 3",
        "task failed: process 'web' failed",
        "TASK_FAILED #",
        "TASK_FAILED #",
        "TASK_FAILED #",
    )
    timed(answer)
    kinds = [event.kind for event in answer.trace if event.text.startswith("TASK_FAILED")]
    assert kinds == [
        reporter_pb2.TRACE_KIND_PROPOSED,
        reporter_pb2.TRACE_KIND_ACCEPTED,
        reporter_pb2.TRACE_KIND_ACKNOWLEDGED,
    ]
    uuids = {event.uuid for event in answer.trace if event.text.startswith("TASK_FAILED") and event.uuid}
    assert uuids == {task.statuses[-1].uuid}
    assert not answer.waiting
    stack.restart("reporter")
    again = explain(stack, task.task_id)
    assert again.over
    assert list(again.trace)[: len(answer.trace)] == list(answer.trace)


def test_a_kill_names_who_asked_and_what_made_it_sooner(stack: Stack) -> None:
    task = stubborn(stack)
    task.wait_for("TASK_RUNNING")
    assert task.kill()
    begun = "end begins, because of KILL of the scheduler, SIGKILL in 600 s at the latest"
    answer = explained_when(stack, task.task_id, lambda answer: any(text.startswith(begun) for text in texts(answer)))
    assert any(waiting.text.startswith("the task is ending (KILL of the scheduler)") for waiting in answer.waiting)
    assert task.kill(grace=0)
    assert task.wait_end() == "TASK_KILLED"
    answer = explained_end(stack, task.task_id)
    # The coordinator obeys the shorter deadline by itself, so the exit may come before the runner's word of it.
    in_order(answer, begun, "end comes sooner, because of KILL", "task killed")
    in_order(answer, begun, "process 'main' run 0 ended by SIGKILL", "task killed")
    timed(answer)


def test_a_shutdown_names_itself(stack: Stack) -> None:
    task = stack.launch(SLEEP, shutdown_grace=20)
    task.wait_for("TASK_RUNNING")
    task.shutdown()
    assert task.wait_end() == "TASK_KILLED"
    answer = explained_when(
        stack, task.task_id, lambda answer: any(text.startswith("TASK_KILLED") for text in texts(answer))
    )
    in_order(answer, "end begins, because of SHUTDOWN of the executor", "process 'main' run 0 ended by", "TASK_KILLED")


def test_a_gated_task_says_what_it_waits_for_and_an_unhealthy_one_why_it_ended(stack: Stack, target: Target) -> None:
    target.status = 503
    task = stack.launch(aurora(target.port, initial_interval_secs=3))
    target.wait_requests(2)
    gated = "RUNNING waits for health: successes in a row 0, failures "

    def waits(answer: reporter_pb2.ExplainTaskResponse) -> bool:
        return any(waiting.text.startswith(gated) and "503" in waiting.text for waiting in answer.waiting)

    explained_when(stack, task.task_id, waits)
    assert task.wait_end() == "TASK_FAILED"
    answer = explained_end(stack, task.task_id)
    in_order(answer, "the task has to end: ", "end begins, because of health's verdict", "TASK_FAILED")


def test_a_refused_task_names_the_place(stack: Stack) -> None:
    task = stack.launch({"processes": [{"name": "web"}]})
    assert task.wait_end() == "TASK_ERROR"
    answer = explained_end(stack, task.task_id)
    in_order(answer, "end begins, because of the task is refused", "task failed: ", "TASK_ERROR #1 proposed")
    assert any("processes[0].cmdline" in text for text in texts(answer))


def test_a_reporter_killed_in_the_middle_tells_one_story(stack: Stack) -> None:
    task = stubborn(stack)
    task.wait_acknowledged("TASK_RUNNING")
    stack.parts["reporter"].kill()
    assert task.kill()
    stack.parts["reporter"].start()
    stack.ready("reporter")
    explained_when(stack, task.task_id, lambda answer: answer.attached)
    assert task.kill(grace=0)
    assert task.wait_end() == "TASK_KILLED"
    answer = explained_end(stack, task.task_id)
    in_order(
        answer,
        "TASK_RUNNING #2 proposed",
        "TASK_RUNNING #2 acknowledged",
        "driver attached",
        "end begins, because of KILL of the scheduler",
        "TASK_KILLED #3 proposed",
        "TASK_KILLED #3 acknowledged",
    )
    timed(answer)
    told = [text for text in texts(answer) if not text.startswith("driver attached")]
    assert len(told) == len(set(told)), f"told twice: {told}"


def test_a_lost_journal_is_said(stack: Stack) -> None:
    task = stack.launch(SLEEP)
    task.wait_acknowledged("TASK_RUNNING")
    stack.parts["reporter"].kill()
    shutil.rmtree(f"{stack.dir}/state/reporter/tasks")
    stack.parts["reporter"].start()
    stack.ready("reporter")
    stub = reporter_pb2_grpc.ReporterServiceStub(stack.channel("reporter-admin"))
    for reply in stub.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(), timeout=TIMEOUT):
        if reply.task.attached:
            break
    task.kill()
    assert task.wait_end() == "TASK_KILLED"
    answer = explained_end(stack, task.task_id)
    assert answer.trace[0].kind == reporter_pb2.TRACE_KIND_GAP
    assert "had accepted TASK_STARTING, TASK_RUNNING already" in answer.trace[0].text
    in_order(answer, "end begins, because of KILL", "TASK_KILLED #")


def test_the_command_shows_it_and_refuses_unknown_tasks(stack: Stack) -> None:
    task = stack.launch({"processes": [{"name": "web", "cmdline": "exit 3"}]})
    task.wait_end()
    explained_end(stack, task.task_id)
    with pytest.raises(grpc.RpcError) as refused:
        explain(stack, "nobody")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    command = [sys.executable, "-m", "services.cli", "explain", "--run-dir", stack.run_dir]
    shown = subprocess.run([*command, task.task_id], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "TASK_FAILED #3 acknowledged by the agent" in shown.stdout
    assert "over: nothing is waited for" in shown.stdout
    whole = subprocess.run(
        [*command, task.task_id, "--json"], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    trace = json.loads(whole.stdout)["trace"]
    last = [event for event in trace if event["text"].startswith("TASK_FAILED")]
    assert [event["source"] for event in last] == ["reporter", "driver", "agent"]
    assert len({event["uuid"] for event in last} - {None}) == 1
    unknown = subprocess.run([*command, "nobody"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert unknown.returncode == 2
    assert "NOT_FOUND: task_id: no task 'nobody'" in unknown.stderr
    assert "trivet ps --all" in unknown.stderr
