"""Tasks that nobody will end any more, and what is kept of tasks that are over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.unit.reporter.desk import KEY, Desk, Request, active, ended, files, forget, launch, settle
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_a_task_that_hello_does_not_name_is_closed(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active()))
    desk.proposals()
    desk.attach([])
    assert desk.proposals() == []
    desk.restart()
    assert desk.store.finished.keys() == {KEY}


def test_tasks_of_an_earlier_run_of_the_executor_are_closed_unless_it_is_attached(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    first = desk.session
    later = EXECUTOR._replace(incarnation="later")
    desk.session = None
    desk.attach([], hello(executor=later))
    view = desk.reporter.task("task")
    assert view is not None
    assert view.attached, "its driver is there: nobody else may end it"
    desk.session = first
    desk.detach()
    desk.attach([], hello(executor=later))
    assert KEY in desk.store.finished


def test_an_executor_that_does_not_come_back_is_given_up_after_the_lease(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active()))
    desk.detach()
    desk.clock.advance(599.0)
    assert KEY not in desk.store.finished
    desk.attach([DriverTask(KEY, state=active()).hello()])
    desk.clock.advance(1000.0)
    assert KEY not in desk.store.finished, "attached again"
    desk.restart()
    desk.clock.advance(601.0)
    assert KEY in desk.store.finished, "counted from the start of the service"


def test_a_closed_task_whose_driver_comes_back_after_all_goes_on(desk: Desk) -> None:
    desk.attach([])
    driver = DriverTask(KEY)
    desk.say(launch())
    driver.state = active()
    desk.say(Request(task_state=driver.state))
    settle(desk, driver)
    desk.detach()
    desk.clock.advance(601.0)
    driver.state = ended()
    desk.attach([driver.hello()])
    settle(desk, driver)
    assert driver.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]


def test_a_driver_that_does_not_know_the_task_closes_it(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active()))
    (first, _) = desk.proposals()
    unknown = reporter_pb2.REJECTION_UNKNOWN_TASK
    desk.say(Request(answer=reporter_pb2.Answer(key=KEY.to_pb(), ref=first.ref, rejection=unknown)))
    assert KEY in desk.store.finished


def test_only_the_newest_finished_tasks_are_kept_and_their_files_with_them(tmp_path: Path) -> None:
    desk = Desk(str(tmp_path), keep_finished=3)
    desk.attach([])
    keys = [KEY._replace(task_id=f"task-{number}") for number in range(6)]
    for key in keys:
        desk.say(launch(key))
        desk.say(Request(task_state=ended(key)))
        desk.say(forget(key))
    kept = [f"task-{number}" for number in (3, 4, 5)]
    assert [view.key.task_id for view in desk.reporter.tasks()] == kept
    assert len(files(desk)) == 3
    desk.restart()
    assert [view.key.task_id for view in desk.reporter.tasks()] == kept
    desk._keep_finished = 1
    desk.restart()
    assert [view.key.task_id for view in desk.reporter.tasks()] == kept[2:]
    assert len(files(desk)) == 1
    desk.reporter.close()


def test_files_and_timers_do_not_outlive_their_tasks(desk: Desk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    desk.attach([])
    for number in range(50):
        key = KEY._replace(task_id=f"task-{number}")
        desk.say(launch(key))
        desk.say(Request(task_state=active(key, gated=True)))
        desk.say(Request(verdict=link_pb2.Verdict(key=key.to_pb(), version=1, passed=True)))
        desk.say(Request(verdict=link_pb2.Verdict(key=key.to_pb(), version=2, passed=True, healthy=False)))
        desk.say(forget(key))
    assert len(os.listdir("/proc/self/fd")) == before
    assert desk.clock.timers == {}
