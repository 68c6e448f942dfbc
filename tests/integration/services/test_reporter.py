"""The reporter as a process on unix sockets, with a double of the driver on the other side of a real stream."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from mesos.v1 import mesos_pb2
from tests.integration.services.reporter_rig import (
    GENEROUS,
    KEY,
    DriverDouble,
    ReporterProcess,
    Request,
    driving,
    operating,
    task_state,
)
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2, reporter_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def reporter(tmp_path: Path) -> Iterator[ReporterProcess]:
    made = ReporterProcess(tmp_path)
    made.start()
    yield made
    made.end()


def test_a_task_is_followed_to_its_end_and_operators_see_it(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver, operating(reporter) as operator:
            await driver.launch()
            await driver.tell_state(task_state(1))
            await driver.tell_state(task_state(2, started=True))
            await driver.tell_state(task_state(3, "SUCCESS", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FINISHED")
            for proposal in driver.proposals:
                acknowledged = reporter_pb2.Acknowledged(key=proposal.key, ref=proposal.ref, uuid=b"u" * 16)
                await driver.say(Request(acknowledged=acknowledged))
            watch = operator.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(task_id="task"))
            async for seen in watch:
                # The watch tells every change: no need to ask again and again.
                if all(e.delivery == reporter_pb2.DELIVERY_ACKNOWLEDGED for e in seen.task.statuses):
                    break
            watch.cancel()
            await driver.say(Request(forget=link_pb2.Forget(key=KEY.to_pb())))
            answer = await operator.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(task_id="task"))
            assert [mesos_pb2.TaskState.Name(e.status.state) for e in answer.task.statuses] == driver.tasks[KEY].states
            assert len((await operator.ListTaskStatuses(reporter_pb2.ListTaskStatusesRequest())).tasks) == 1

    asyncio.run(life())


STAGES: list[Callable[[DriverDouble], Any]] = [
    lambda driver: driver.launch(),
    lambda driver: driver.tell_state(task_state(1, gated=True, health_checked=True)),
    lambda driver: driver.tell_state(task_state(2, gated=True, health_checked=True, started=True)),
    lambda driver: driver.tell_verdict(link_pb2.Verdict(key=KEY.to_pb(), version=1, passed=True, healthy=True)),
    lambda driver: driver.tell_state(
        task_state(3, "CLEANING", cause="KILL", gated=True, health_checked=True, started=True)
    ),
    lambda driver: driver.tell_state(
        task_state(4, "KILLED", cause="KILL", gated=True, health_checked=True, started=True)
    ),
]


@pytest.mark.parametrize("answering", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_kill_9_at_each_stage_loses_and_doubles_nothing(reporter: ReporterProcess, stage: int, answering: bool) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            for number, act in enumerate(STAGES):
                # At the stage of the crash the statuses reach the driver, or not even that.
                driver.answering = answering or number != stage
                await act(driver)
                if number == stage:
                    reporter.end()
                    await driver.detach()
                    reporter.start()
                    driver.answering = True
                    await driver.attach()
                await driver.until_count((0, 1, 1, 2, 3, 4)[number])
            await driver.until_states("STARTING", "RUNNING", "KILLING", "KILLED")

    asyncio.run(life())


def test_a_reporter_that_died_with_its_state_repeats_nothing(reporter: ReporterProcess, tmp_path: Path) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            reporter.end()
            await driver.detach()
            for name in os.listdir(tmp_path / "state" / "tasks"):
                (tmp_path / "state" / "tasks" / name).unlink()
            reporter.start()
            await driver.attach()
            await driver.tell_state(task_state(2, "SUCCESS", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FINISHED")

    asyncio.run(life())


def test_a_frozen_reporter_goes_on_with_the_next_driver_when_it_thaws(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            reporter.send(signal.SIGSTOP)
            await driver.tell_state(task_state(2, "SUCCESS", cause="PLAN", started=True))
            await driver.detach()
            reporter.send(signal.SIGCONT)
            await driver.attach()
            await driver.until_states("STARTING", "RUNNING", "FINISHED")

    asyncio.run(life())


def test_nothing_is_proposed_for_a_task_that_the_driver_has_ended_itself(reporter: ReporterProcess) -> None:
    other = KEY._replace(task_id="other")

    async def life() -> None:
        async with driving(reporter, KEY, other) as driver:
            await driver.launch()
            await driver.launch(other)
            latch = link_pb2.Latch(state=mesos_pb2.TASK_KILLED, uuid=b"u" * 16, origin="LATCH_ORIGIN_DRIVER")
            await driver.say(Request(latched=link_pb2.Latched(key=KEY.to_pb(), latch=latch)))
            await driver.tell_state(task_state(1, "KILLED", cause="KILL"))
            ended = task_state(1, "KILLED", cause="KILL")
            ended.key.CopyFrom(other.to_pb())
            await driver.tell_state(ended)
            # The stream keeps its order: what was to come for the first task would have come before.
            await driver.until_states("STARTING", "KILLED", key=other)
            assert driver.tasks[KEY].states == []

    asyncio.run(life())


def test_a_health_flap_is_told_a_second_later_by_its_newest_value(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, gated=True, health_checked=True, started=True))
            for version, healthy in enumerate([True, False, True, False], 1):
                verdict = link_pb2.Verdict(key=KEY.to_pb(), version=version, passed=True, healthy=healthy)
                await driver.tell_verdict(verdict)
            await driver.until_states("STARTING", "RUNNING", "RUNNING")
            _, first, second = driver.tasks[KEY].accepted
            assert (first.healthy, first.HasField("reason")) == (True, False)
            assert (second.healthy, second.reason) == (False, 29)

    asyncio.run(life())


def test_many_tasks_of_one_executor_keep_their_order(reporter: ReporterProcess) -> None:
    keys = [KEY._replace(task_id=f"task-{number}") for number in range(200)]

    async def life() -> None:
        async with driving(reporter, *keys) as driver:
            for key in keys:
                await driver.launch(key)
            for version, (phase, cause) in enumerate([("ACTIVE", "UNSPECIFIED"), ("FAILED", "PLAN")], 1):
                for key in keys:
                    state = task_state(version, phase, cause=cause, started=True)
                    state.key.CopyFrom(key.to_pb())
                    await driver.tell_state(state)
            for key in keys:
                await driver.until_states("STARTING", "RUNNING", "FAILED", key=key)

    asyncio.run(life())


@pytest.mark.parametrize(
    ("socket", "call", "code"),
    [
        ("admin_socket", "get unknown", grpc.StatusCode.NOT_FOUND),
        ("admin_socket", "get", grpc.StatusCode.INVALID_ARGUMENT),
        ("socket", "get", grpc.StatusCode.UNIMPLEMENTED),
        ("socket", "list", grpc.StatusCode.UNIMPLEMENTED),
        ("socket", "watch", grpc.StatusCode.UNIMPLEMENTED),
        ("admin_socket", "attach", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_calls_on_the_wrong_socket_and_for_unknown_tasks_are_refused(
    reporter: ReporterProcess, socket: str, call: str, code: grpc.StatusCode
) -> None:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(getattr(reporter, socket)) as channel:
            stub = reporter_pb2_grpc.ReporterServiceStub(channel)
            match call:
                case "get unknown":
                    await stub.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(task_id="nobody"), timeout=GENEROUS)
                case "get":
                    await stub.GetTaskStatus(reporter_pb2.GetTaskStatusRequest(), timeout=GENEROUS)
                case "list":
                    await stub.ListTaskStatuses(reporter_pb2.ListTaskStatusesRequest(), timeout=GENEROUS)
                case "watch":
                    await stub.WatchTaskStatuses(reporter_pb2.WatchTaskStatusesRequest(), timeout=GENEROUS).read()
                case "attach":
                    await stub.Attach(timeout=GENEROUS).read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(ask())
    assert caught.value.code() is code


def test_sigterm_ends_it_in_order_and_the_next_one_goes_on(reporter: ReporterProcess) -> None:
    async def life() -> None:
        async with driving(reporter) as driver:
            await driver.launch()
            await driver.tell_state(task_state(1, started=True))
            await driver.until_states("STARTING", "RUNNING")
            assert await asyncio.to_thread(reporter.end, signal.SIGTERM) == 0
            await driver.detach()
            reporter.start()
            await driver.attach()
            await driver.tell_state(task_state(2, "FAILED", cause="PLAN", started=True))
            await driver.until_states("STARTING", "RUNNING", "FAILED")

    asyncio.run(life())
