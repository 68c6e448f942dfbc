"""Which check an operator means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor
from services.health.choice import AmbiguousTask, UnknownCheck, choose, over
from services.health.metrics import Counters
from services.health.model import Kind
from services.health.servicer import AdminServicer
from tests.unit.health.tasks import task_info, with_checks
from tests.unit.health.world import CHECKED, DriverDouble
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from tests.unit.health.world import World

TCP = mesos_pb2.CheckInfo(type=mesos_pb2.CheckInfo.TCP, tcp=mesos_pb2.CheckInfo.Tcp(port=1))


def driver(world: World, executor: str = "e", incarnation: str = "i", framework: str = "f") -> DriverDouble:
    made = DriverDouble(world, Executor(framework, executor, incarnation))
    made.attach()
    return made


@pytest.mark.parametrize(
    ("info", "asked", "found"),
    [(CHECKED, None, Kind.HEALTH), (with_checks(CHECKED, check=TCP), None, Kind.HEALTH),
     (with_checks(CHECKED, check=TCP), Kind.CHECK, Kind.CHECK),
     (with_checks(task_info(), check=TCP), None, Kind.CHECK)],
)  # fmt: skip
def test_the_check_of_the_health_comes_first(world: World, info: bytes, asked: Kind | None, found: Kind) -> None:
    driver(world).launch(info)
    assert choose(world.book.entries(), asked, "t")[1] is found


@pytest.mark.parametrize(
    ("info", "asked", "words"),
    [(None, None, "no health check of a task 't': ListChecks names all tasks that have one"),
     (task_info(), None, "no health check of a task 't': none is configured"),
     (with_checks(task_info(), check=TCP), Kind.HEALTH, "it has only a check, whose results are told as they are"),
     (CHECKED, Kind.CHECK, "no check of a task 't': it has only a health check")],
)  # fmt: skip
def test_what_there_is_instead_is_said(world: World, info: bytes | None, asked: Kind | None, words: str) -> None:
    if info is not None:
        driver(world).launch(info)
    with pytest.raises(UnknownCheck, match=words):
        choose(world.book.entries(), asked, "t")


def test_a_task_of_several_executors_is_named_by_its_executor(world: World) -> None:
    for name in ("e0", "e1"):
        driver(world, name).launch(CHECKED)
    words = "task_id: 't' is a task of several executors: 'e0' of framework 'f', 'e1' of framework 'f': say which one"
    with pytest.raises(AmbiguousTask, match=words):
        choose(world.book.entries(), None, "t")
    assert choose(world.book.entries(), None, "t", "e1")[0].key.executor.executor_id == "e1"
    assert choose(world.book.entries(), None, "t", "e1", "f")[0].key.executor.executor_id == "e1"
    with pytest.raises(UnknownCheck):
        choose(world.book.entries(), None, "t", "e1", "other")


def test_whose_driver_is_attached_goes_before_whose_is_not(world: World) -> None:
    first, second = driver(world, "e0"), driver(world, "e1")
    for each in (first, second):
        each.launch(CHECKED)
    with pytest.raises(AmbiguousTask):
        choose(world.book.entries(), None, "t")
    first.detach()
    assert choose(world.book.entries(), None, "t")[0].key.executor.executor_id == "e1"
    # The one without may be dead for long: even what is ending is nearer.
    second.state(phase=link_pb2.TASK_PHASE_CLEANING)
    assert choose(world.book.entries(), None, "t")[0].key.executor.executor_id == "e1"
    assert choose(world.book.entries(), None, "t", "e0")[0].key.executor.executor_id == "e0"


def test_of_several_that_are_all_unattached_none_is_guessed(world: World) -> None:
    for name in ("e0", "e1"):
        each = driver(world, name)
        each.launch(CHECKED)
        each.detach()
    with pytest.raises(AmbiguousTask):
        choose(world.book.entries(), None, "t")


def test_since_when_a_driver_is_away_is_told(world: World) -> None:
    task = driver(world)
    task.launch(CHECKED)
    (shown,) = world.book.shown()
    assert not shown.HasField("unattached_secs")
    task.detach()
    world.now += 245
    (shown,) = world.book.shown()
    assert (shown.attached, shown.unattached_secs) == (False, 245)
    task.attach()
    (shown,) = world.book.shown()
    assert not shown.HasField("unattached_secs")


def test_what_is_over_is_not_meant_while_another_is_not(world: World) -> None:
    first, second = driver(world, "e0"), driver(world, "e1")
    for each in (first, second):
        each.launch(CHECKED)
    first.state(phase=link_pb2.TASK_PHASE_CLEANING)
    assert choose(world.book.entries(), None, "t")[0].key.executor.executor_id == "e1"
    second.state(phase=link_pb2.TASK_PHASE_CLEANING)
    with pytest.raises(AmbiguousTask):
        choose(world.book.entries(), None, "t")


def test_of_a_dead_health_check_nothing_is_snoozed_even_if_the_other_check_lives(world: World) -> None:
    mesos = mesos_pb2.HealthCheck(
        type=mesos_pb2.HealthCheck.TCP, tcp=mesos_pb2.HealthCheck.TCPCheckInfo(port=1), delay_seconds=0,
        grace_period_seconds=0, consecutive_failures=1,
    )  # fmt: skip
    task = driver(world)
    heard = task.launch(with_checks(task_info(), mesos, TCP))
    (probe,) = [each.probe for each in heard if each.probe.check == pb.CHECK_KIND_HEALTH]
    world.now += 1
    task.answer(probe, outcome=pb.PROBE_OUTCOME_NO_ANSWER)
    entry, kind = choose(world.book.entries(), Kind.HEALTH, "t")
    assert over(entry, kind)
    assert not over(entry, Kind.CHECK)
    assert not over(entry)

    class Context:
        async def abort(self, code: grpc.StatusCode, details: str) -> None:
            raise RuntimeError(code, details)

    asked = AdminServicer(world.book, Counters()).SnoozeCheck(
        pb.SnoozeCheckRequest(task_id="t", duration_secs=600), cast("Any", Context())
    )
    with pytest.raises(RuntimeError) as refused:
        asyncio.run(asked)
    assert refused.value.args[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert "not checked any more" in refused.value.args[1]
    assert entry.check(Kind.HEALTH).snoozed_until is None
    # Nor is it meant where another executor's lives.
    driver(world, "other").launch(with_checks(task_info(), mesos, TCP))
    assert choose(world.book.entries(), Kind.HEALTH, "t")[0].key.executor.executor_id == "other"


def test_of_two_incarnations_the_newer_one_is_meant_and_the_attached_one(world: World) -> None:
    driver(world, incarnation="old").launch(CHECKED)
    new = driver(world, incarnation="new")
    new.launch(CHECKED)
    assert choose(world.book.entries(), None, "t")[0].key.executor.incarnation == "new"
    new.detach()
    assert choose(world.book.entries(), None, "t")[0].key.executor.incarnation == "old"
