"""What a driver's Hello brings: known and unknown tasks, and what it remembers when the journal was lost."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from services.common.attach import Session
from services.common.keys import Executor
from tests.unit.health.tasks import task_info
from tests.unit.health.world import CHECKED, MINE, DriverDouble, World, journals, kinds
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from trivet.health.v1 import health_pb2 as pb


def test_an_unknown_task_in_hello_is_asked_for(world: World) -> None:
    driver = DriverDouble(world)
    driver.infos[driver.key()] = CHECKED
    driver.states[driver.key()] = link_pb2.TaskState(phase=link_pb2.TASK_PHASE_ACTIVE, started=True)
    assert kinds(driver.attach()) == ["need_task", "probe"]


def test_a_known_task_in_hello_is_not_asked_for(driver: DriverDouble) -> None:
    driver.answer(driver.launch()[0].probe)
    driver.world.start()
    (verdict,) = driver.attach()
    assert verdict.verdict == driver.verdicts[driver.key()]


def test_another_taskinfo_under_a_known_key_starts_anew(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    driver.infos[driver.key()] = task_info({"health_checker": {"shell": {"shell_command": "x"}}})
    (need, probe) = driver.attach()
    assert (need.WhichOneof("message"), probe.probe.command.argv[2]) == ("need_task", "x")


def test_a_task_that_is_not_in_hello_is_dropped(driver: DriverDouble) -> None:
    driver.launch()
    driver.launch(task_id="other")
    driver.detach()
    del driver.infos[driver.key()]
    driver.attach()
    assert [check.key.task_id for check in driver.world.book.shown()] == ["other"]
    assert journals(driver.world) == 1


def test_tasks_of_an_earlier_incarnation_are_dropped_unless_its_driver_is_attached(driver: DriverDouble) -> None:
    driver.launch()
    later = DriverDouble(driver.world, Executor("f", "e", "later"))
    later.attach()
    assert len(driver.world.book.shown()) == 1
    driver.detach()
    later.detach()
    later.attach()
    assert driver.world.book.shown() == []


def test_another_executors_tasks_are_left_alone(driver: DriverDouble) -> None:
    driver.launch()
    driver.detach()
    DriverDouble(driver.world, Executor("f", "e2", "i")).attach()
    assert len(driver.world.book.shown()) == 1


def test_a_lost_journal_never_unpasses_a_task(driver: DriverDouble) -> None:
    driver.answer(driver.launch()[0].probe)
    version = driver.verdicts[driver.key()].version
    for name in os.listdir(driver.world.path / "checks"):
        os.unlink(driver.world.path / "checks" / name)
    driver.world.start()
    heard = driver.attach()
    assert kinds(heard) == ["need_task", "verdict"]
    assert driver.verdicts[driver.key()].version > version
    assert driver.verdicts[driver.key()].passed
    driver.world.run(10)
    assert kinds(driver.listen()) == ["probe"]


def test_a_lost_journal_never_unpasses_a_task_that_was_called_running(driver: DriverDouble) -> None:
    driver.infos[driver.key()] = CHECKED
    session: Session[pb.AttachResponse] = Session(link_pb2.Hello(executor=MINE.to_pb()))
    hash_ = hashlib.sha256(CHECKED).digest()
    task = link_pb2.HelloTask(key=driver.key().to_pb(), task_hash=hash_, accepted_states=[0, 1])
    driver.world.book.on_hello(session, session.hello, [task])
    driver.session = session
    heard = driver.listen()
    assert kinds(heard) == ["need_task", "verdict"]
    assert heard[1].verdict.passed


def test_a_task_that_has_ended_before_hello_is_not_probed(world: World) -> None:
    driver = DriverDouble(world)
    driver.infos[driver.key()] = CHECKED
    driver.states[driver.key()] = link_pb2.TaskState(phase=link_pb2.TASK_PHASE_FINALIZING, started=True)
    assert kinds(driver.attach()) == ["need_task"]
    world.run(100)
    assert driver.listen() == []


@pytest.mark.parametrize(
    "fields", [{"latch": link_pb2.Latch(state=2)}, {"ends": [link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL)]}]
)
def test_a_task_whose_end_was_asked_for_before_hello_is_not_probed(
    driver: DriverDouble, fields: dict[str, Any]
) -> None:
    driver.launch(started=False)
    driver.detach()
    session: Session[pb.AttachResponse] = Session(link_pb2.Hello(executor=MINE.to_pb()))
    task = link_pb2.HelloTask(key=driver.key().to_pb(), task_hash=hashlib.sha256(CHECKED).digest(), **fields)
    driver.world.book.on_hello(session, session.hello, [task])
    driver.session = session
    assert driver.state(started=True) == []


def test_a_new_stream_of_the_same_driver_replaces_the_old_one(driver: DriverDouble) -> None:
    (probe,) = driver.launch()
    driver.detach()
    driver.attach()
    # The probe of the old stream is not waited for any more.
    assert driver.answer(probe.probe) == []
    driver.world.run(1)
    (again,) = driver.listen()
    assert kinds(driver.answer(again.probe)) == ["verdict"]
