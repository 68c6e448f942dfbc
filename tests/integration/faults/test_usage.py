"""Samples of real processes, and disk limits of real sandboxes, through the whole stack."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.integration.faults.processes import TIMEOUT, wait_dead, wait_until
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2, runner_pb2_grpc

if TYPE_CHECKING:
    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack

MIB = 1 << 20
# Half a minute of one core, in a child of a child that has its own session; the rest waits.
BURN = "setsid bash -c 'bash -c \"while :; do :; done\" & wait' & read x < "


def stub(stack: Stack) -> Any:
    return runner_pb2_grpc.RunnerServiceStub(stack.channel("runner-admin"))


def usage(stack: Stack, task: LaunchedTask) -> runner_pb2.TaskUsage:
    reply = stub(stack).GetTask(runner_pb2.GetTaskRequest(task_id=task.task_id, usage=True), timeout=TIMEOUT)
    found: runner_pb2.TaskUsage = reply.usage
    return found


def phase(stack: Stack, task: LaunchedTask) -> link_pb2.TaskState:
    reply = stub(stack).GetTask(runner_pb2.GetTaskRequest(task_id=task.task_id), timeout=TIMEOUT)
    state: link_pb2.TaskState = reply.task.state
    return state


def measure_often(stack: Stack) -> None:
    stack.parts["runner"].argv = [*stack.parts["runner"].argv, "--disk-interval", "0.5"]
    stack.restart("runner")


def test_time_memory_and_threads_of_the_whole_tree_by_process(stack: Stack) -> None:
    gate = stack.gate()
    threads = (
        "import threading,sys; x=bytearray(80<<20); "
        f"[threading.Thread(target=threading.Event().wait, daemon=True).start() for _ in range(4)]; "
        f"open({gate.path!r}).readline()"
    )
    task = stack.launch(
        {
            "processes": [
                {"name": "burn", "cmdline": BURN + gate.path},
                {"name": "big", "cmdline": f'python3 -c "{threads}"'},
            ]
        }
    )
    task.wait_for("TASK_RUNNING")
    seen: list[runner_pb2.TaskUsage] = []
    watch = stub(stack).WatchUsage(
        runner_pb2.WatchUsageRequest(task_id=task.task_id, interval_secs=0.5), timeout=2 * TIMEOUT
    )
    for event in watch:
        seen.append(event.usage)
        by_name = {each.process: each.use for each in event.usage.processes}
        if len(seen) > 4 and by_name["burn"].cpus > 0.4 and by_name["big"].rss_bytes > 80 * MIB:
            break
        assert len(seen) < 60, seen[-1]
    watch.cancel()
    assert by_name["burn"].processes == 3
    assert by_name["burn"].rss_bytes < 40 * MIB
    assert by_name["burn"].cpus < 1.3
    assert by_name["big"].threads >= 5
    assert by_name["big"].cpus < 0.3
    newest = seen[-1]
    assert newest.total.processes == sum(use.processes for use in by_name.values())
    assert newest.total.rss_bytes == sum(use.rss_bytes for use in by_name.values())
    times = [each.total.cpu_secs for each in seen if each.at]
    assert times == sorted(times)
    assert times[-1] > times[0]
    assert newest.disk.used_bytes > 0
    assert set(newest.disk.log_bytes) == {"burn", "big"}
    task.kill(grace=0.0)
    assert task.wait_end() == "TASK_KILLED"


def test_a_fresh_sample_with_the_task_and_nothing_afterwards(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"read x < {gate.path}"}]})
    task.wait_for("TASK_RUNNING")
    first = usage(stack, task)
    assert first.total.processes == 1
    assert not first.total.HasField("cpus")
    assert usage(stack, task).at > first.at
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


@pytest.mark.parametrize("victim", ["runner", "driver"])
def test_sampling_goes_on_after_a_restart(stack: Stack, victim: str) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"read x < {gate.path}"}]})
    task.wait_for("TASK_RUNNING")
    request = runner_pb2.WatchUsageRequest(interval_secs=0.5)
    watch = stub(stack).WatchUsage(request, timeout=2 * TIMEOUT)
    at = next(event.usage.at for event in watch if event.usage.at)
    if victim == "driver":
        pid = task.driver()
        os.kill(pid, signal.SIGKILL)
        wait_dead(pid)
    else:
        stack.restart("runner")
        with pytest.raises(grpc.RpcError) as caught:
            list(watch)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        watch = stub(stack).WatchUsage(request, timeout=2 * TIMEOUT, wait_for_ready=True)
    assert next(event.usage.total.processes for event in watch if event.usage.at > at) == 1
    watch.cancel()
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def test_a_watch_of_one_task_ends_with_it_and_an_ended_one_is_over(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"read x < {gate.path}"}]})
    task.wait_for("TASK_RUNNING")
    request = runner_pb2.WatchUsageRequest(task_id=task.task_id)
    watch = stub(stack).WatchUsage(request, timeout=2 * TIMEOUT)
    assert next(watch).usage
    gate.open()
    assert [event.over for event in watch][-1]
    (event,) = stub(stack).WatchUsage(request, timeout=TIMEOUT)
    assert event.over
    for bad, code in (
        (runner_pb2.WatchUsageRequest(task_id="nobody"), grpc.StatusCode.NOT_FOUND),
        (runner_pb2.WatchUsageRequest(interval_secs=0.1), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(stub(stack).WatchUsage(bad, timeout=TIMEOUT))
        assert caught.value.code() == code


def test_a_sandbox_that_outgrows_its_reservation_ends_the_task(stack: Stack) -> None:
    measure_often(stack)
    gate = stack.gate()
    # What is linked twice counts once, and what a link leads to does not count at all.
    cmdline = (
        "head -c 3000000 /dev/zero > a; ln a b; ln a c; ln -s / d; ln -s . e; "
        f"read x < {gate.path}; head -c 9000000 /dev/zero > f; read x < {gate.path}"
    )
    task = stack.launch(
        {
            "processes": [
                {"name": "p", "cmdline": cmdline},
                {"name": "last", "cmdline": "echo fin > fin", "final": True},
            ],
            "resources": {"cpu": 1.0, "ram": 64 * MIB, "disk": 8 * MIB},
        }
    )
    task.wait_for("TASK_RUNNING")
    request = runner_pb2.WatchUsageRequest(task_id=task.task_id, interval_secs=0.5)
    walks: set[float] = set()
    for event in stub(stack).WatchUsage(request, timeout=TIMEOUT):
        disk = event.usage.disk
        if 3_000_000 < disk.used_bytes < 4_000_000:
            walks.add(disk.at)
        if len(walks) > 2:
            break
    assert not phase(stack, task).end_cause
    gate.open()
    assert task.wait_end() == "TASK_FAILED"
    message = task.statuses[-1].message
    assert "Disk limit exceeded: the sandbox takes 12" in message
    assert "reserved are 8388608" in message
    state = phase(stack, task)
    assert (state.end_cause, state.phase) == (link_pb2.END_CAUSE_DISK_LIMIT, link_pb2.TASK_PHASE_FAILED)
    assert os.path.exists(f"{task.sandbox}/sandbox/fin"), "the final process has run"


def test_a_disk_limit_holds_after_restarts_of_the_runner_and_the_driver(stack: Stack) -> None:
    measure_often(stack)
    gate = stack.gate()
    spec = {
        "processes": [{"name": "p", "cmdline": f"read x < {gate.path}; head -c 9000000 /dev/zero > f; sleep 1000"}],
        "resources": {"cpu": 1.0, "ram": 64 * MIB, "disk": 8 * MIB},
    }
    task = stack.launch(spec)
    task.wait_for("TASK_RUNNING")
    stack.restart("runner")
    pid = task.driver()
    os.kill(pid, signal.SIGKILL)
    wait_dead(pid)
    gate.open()
    assert task.wait_end() == "TASK_FAILED"


def test_without_limit_and_watchers_the_driver_samples_nothing(stack: Stack) -> None:
    gate = stack.gate()
    task = stack.launch({"processes": [{"name": "p", "cmdline": f"read x < {gate.path}"}]})
    task.wait_for("TASK_RUNNING")
    driver = task.driver()
    threads = len(os.listdir(f"/proc/{driver}/task"))
    usage(stack, task)
    wait_until(lambda: len(os.listdir(f"/proc/{driver}/task")) <= threads, "its threads to end")
    assert stub(stack).GetTask(runner_pb2.GetTaskRequest(task_id=task.task_id)).usage.at
    with open(f"/proc/{driver}/maps") as file:
        assert "psutil" not in file.read()
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def test_what_a_task_has_left_behind_is_counted_with_its_run_also_beside_another_task(stack: Stack) -> None:
    gate, other = stack.gate(), stack.gate()
    stray = f"env -i setsid -f /bin/sh -c 'echo $$ >{gate.path}; exec sleep 1000'; exec sleep 1001"
    task = stack.launch({"processes": [{"name": "p", "cmdline": stray}]}, executor="strays")
    gate.read()
    beside = stack.launch({"processes": [{"name": "p", "cmdline": f"read x < {other.path}"}]}, executor="strays")
    for each, expected in ((task, 2), (beside, 1)):
        each.wait_for("TASK_RUNNING")
        watch = stub(stack).WatchUsage(
            runner_pb2.WatchUsageRequest(task_id=each.task_id, interval_secs=0.5), timeout=2 * TIMEOUT
        )
        # The first samples may still see `setsid` on its way out.
        usage = next(event.usage for event in watch if event.usage.total.processes == expected)
        watch.cancel()
        assert [(use.process, use.use.processes) for use in usage.processes] == [("p", expected)]
