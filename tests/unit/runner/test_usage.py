"""Who wants samples, what drivers are told of it, and when a sandbox has outgrown its reservation."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import TaskKey
from services.runner.errors import BadRequest
from services.runner.records import Cause, Phase
from services.runner.usage import Demand, UsageDesk, demand, interval, over_limit
from tests.unit.runner.rig import Rig
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def launch(
    rig: Rig, session: Any, task_id: str = "t1", *, own: int | None = None, mesos: float | None = None
) -> TaskKey:
    """A task with a disk of its own (bytes), one in the TaskInfo (MiB), or none."""
    key = TaskKey(session.executor, task_id, 1)
    info = mesos_pb2.TaskInfo(name="n")
    info.task_id.value = task_id
    info.agent_id.value = "a"
    if mesos is not None:
        for name, value in (("cpus", 7.0), ("disk", mesos / 2), ("disk", mesos / 2)):
            info.resources.add(name=name, type=mesos_pb2.Value.SCALAR).scalar.value = value
        # A persistent volume is no part of the sandbox.
        volume = info.resources.add(name="disk", type=mesos_pb2.Value.SCALAR)
        volume.scalar.value = 1e6
        volume.disk.persistence.id = "v"
    task: dict[str, Any] = {"processes": [{"name": "p", "cmdline": "true"}]}
    if own is not None:
        task["resources"] = {"cpu": 1.0, "ram": 64 * MIB, "disk": own}
    info.data = json.dumps(task).encode()
    rig.say(session, launch=link_pb2.Launch(key=key.to_pb(), info=info.SerializeToString()))
    return key


def sampling(session: Any) -> list[tuple[float, float]]:
    return [
        (message.sampling.process_secs, message.sampling.disk_secs)
        for message in session.sent
        if message.HasField("sampling")
    ]


def uses(rig: Rig, session: Any, key: TaskKey, disk: int, at: float = 1.0) -> None:
    usage = runner_pb2.TaskUsage(disk=runner_pb2.DiskUsage(at=at, used_bytes=disk))
    rig.say(session, usage=runner_pb2.Usage(key=key.to_pb(), usage=usage))


def desk_of(rig: Rig, disk_secs: float = 60.0) -> UsageDesk:
    desk = UsageDesk(rig.runner, disk_secs)
    rig.runner.listeners.append(desk)
    return desk


# Pure


def test_the_most_curious_watcher_decides_and_disk_is_measured_for_watchers_and_limits() -> None:
    assert demand([], limited=False, disk_secs=60.0) == Demand(0.0, 0.0)
    assert demand([5.0, 2.0], limited=False, disk_secs=60.0) == Demand(2.0, 60.0)
    assert demand([], limited=True, disk_secs=60.0) == Demand(0.0, 60.0)
    assert demand([], limited=True, disk_secs=0.0) == Demand(0.0, 0.0)


@pytest.mark.parametrize("seconds", [0.4, 3601.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(BadRequest, match=r"^interval_secs: must be 0\.5 to 3600"):
        interval(seconds)


def test_an_interval_that_is_not_given_is_5_s() -> None:
    assert (interval(0.0), interval(0.5), interval(3600.0)) == (5.0, 0.5, 3600.0)


def test_the_limit_itself_may_be_used_and_the_message_has_both_numbers() -> None:
    assert over_limit(100, 100, 1) == ""
    assert over_limit(101, 0, 1) == ""
    assert over_limit(101, 100, 1) == "Disk limit exceeded: the sandbox takes 101 bytes, reserved are 100"
    assert over_limit(301, 300, 2).endswith("reserved are 300 for 2 tasks")


# With a runner


def test_without_interest_nothing_is_sampled(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig)
        session = rig.attach()
        launch(rig, session)
        assert sampling(session) == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("own", "mesos"), [(10 * MIB, None), (None, 10.0), (10 * MIB, 99.0)])
def test_a_task_over_its_reservation_is_ended_as_failed(tmp_path: Path, own: int | None, mesos: float | None) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig, 30.0)
        session = rig.attach()
        key = launch(rig, session, own=own, mesos=mesos)
        assert sampling(session) == [(0.0, 30.0)]
        uses(rig, session, key, 10 * MIB)
        assert rig.runner.books[key].state.cause is None
        uses(rig, session, key, 10 * MIB + 1, at=2.0)
        state = rig.runner.books[key].state
        assert (state.cause, state.verdict) == (Cause.DISK_LIMIT, Phase.FAILED)
        assert state.message == "Disk limit exceeded: the sandbox takes 10485761 bytes, reserved are 10485760"
        # It is being ended: what it takes does not matter any more.
        assert sampling(session) == [(0.0, 30.0), (0.0, 0.0)]

    asyncio.run(scenario())


def test_an_interval_of_0_enforces_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig, 0.0)
        session = rig.attach()
        launch(rig, session, own=1)
        assert sampling(session) == []

    asyncio.run(scenario())


def test_tasks_of_one_executor_share_their_limits(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig)
        session = rig.attach()
        one, two = launch(rig, session, "t1", own=100), launch(rig, session, "t2", own=200)
        uses(rig, session, one, 300)
        uses(rig, session, two, 300)
        assert {rig.runner.books[key].state.cause for key in (one, two)} == {None}
        three = launch(rig, session, "t3")
        uses(rig, session, one, 1000, at=2.0)
        assert rig.runner.books[one].state.cause is None, "one may take what it likes: whose the files are nobody knows"
        rig.forget(session, three)
        uses(rig, session, one, 301, at=3.0)
        assert rig.runner.books[one].state.cause is Cause.DISK_LIMIT
        assert rig.runner.books[two].state.cause is None

    asyncio.run(scenario())


def test_an_old_sample_that_comes_again_with_a_new_one_of_the_processes_is_not_judged_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig)
        session = rig.attach()
        one, two = launch(rig, session, "t1", own=100), launch(rig, session, "t2", own=200)
        uses(rig, session, one, 250, at=1.0)
        rig.forget(session, two)
        uses(rig, session, one, 250, at=1.0)
        assert rig.runner.books[one].state.cause is None
        uses(rig, session, one, 250, at=2.0)
        assert rig.runner.books[one].state.cause is Cause.DISK_LIMIT

    asyncio.run(scenario())


def test_a_driver_that_comes_back_is_told_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk_of(rig)
        session = rig.attach()
        key = launch(rig, session, own=100)
        rig.runner.on_detach(session)
        hands = link_pb2.HandsState(runs=[link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING)], alive=1)
        again = rig.attach(link_pb2.HelloTask(key=key.to_pb(), hands=hands))
        assert sampling(again) == [(0.0, 60.0)]

    asyncio.run(scenario())


def test_watchers_come_and_go_and_the_driver_hears_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk = desk_of(rig)
        session = rig.attach()
        key = launch(rig, session)
        first = desk.watch(lambda _: True, 5.0)
        waiting = asyncio.ensure_future(anext(first))
        await asyncio.sleep(0)
        assert sampling(session) == [(5.0, 60.0)]
        second = desk.watch(lambda each: each == key, 1.0)
        also = asyncio.ensure_future(anext(second))
        await asyncio.sleep(0)
        assert sampling(session)[-1] == (1.0, 60.0)
        uses(rig, session, key, 7)
        assert (await waiting).usage.disk.used_bytes == (await also).usage.disk.used_bytes == 7
        await second.aclose()
        assert sampling(session)[-1] == (5.0, 60.0)
        other = launch(rig, session, "t2")
        assert sampling(session)[-1] == (5.0, 60.0)
        await first.aclose()
        assert sampling(session)[-2:] == [(0.0, 0.0)] * 2
        assert desk.newest(key) is not None
        assert desk.newest(other) is None
        rig.forget(session, key)
        assert desk.newest(key) is None

    asyncio.run(scenario())


def test_a_watch_begins_with_what_is_known_and_tells_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk = desk_of(rig)
        session = rig.attach()
        key, other = launch(rig, session, own=100), launch(rig, session, "t2", own=100)
        uses(rig, session, key, 7)
        uses(rig, session, other, 8)
        watch = desk.watch(lambda each: each == key, 5.0)
        event = await anext(watch)
        assert (event.usage.disk.used_bytes, event.usage.disk.limit_bytes) == (7, 100)
        rig.forget(session, other)
        rig.forget(session, key)
        event = await anext(watch)
        assert event.over
        assert event.key == key.to_pb()
        await watch.aclose()

    asyncio.run(scenario())


def test_a_fresh_sample_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(tmp_path)
        desk = desk_of(rig)
        session = rig.attach()
        key = launch(rig, session)
        asking = asyncio.ensure_future(desk.fresh(key))
        await asyncio.sleep(0)
        assert sampling(session) == [(5.0, 60.0)]
        uses(rig, session, key, 7)
        await asyncio.sleep(0)
        assert not asking.done(), "a sample of the disk alone is not what was asked for"
        usage = runner_pb2.TaskUsage(at=3.0, total=runner_pb2.Consumption(threads=4))
        rig.say(session, usage=runner_pb2.Usage(key=key.to_pb(), usage=usage))
        found = await asking
        assert found is not None
        assert found.total.threads == 4
        assert sampling(session)[-1] == (0.0, 0.0)
        assert await desk.fresh(key, wait=0.0) == found

    asyncio.run(scenario())


def test_what_an_executor_says_of_another_ones_task_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        from services.common.keys import Executor

        rig = Rig(tmp_path)
        desk_of(rig)
        session = rig.attach()
        key = launch(rig, session, own=100)
        stranger = rig.attach(executor=Executor("fw", "stranger", "i1"))
        uses(rig, stranger, key, 10_000)
        assert rig.runner.books[key].state.cause is None

    asyncio.run(scenario())
