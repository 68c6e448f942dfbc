"""All tasks of all executors, with a real store: from launch to end, and what operators see."""

from __future__ import annotations

import grpc

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from tests.unit.reporter.desk import KEY, Desk, Request, active, ended, forget, launch, settle, states
from tests.unit.reporter.driver_model import DriverTask
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2


def test_a_task_goes_from_launch_to_its_end(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    assert desk.proposals() == []
    desk.say(Request(task_state=active(started=False)))
    desk.say(Request(task_state=active(version=2)))
    desk.say(Request(task_state=ended()))
    sent = desk.proposals()
    assert states(sent) == ["STARTING", "RUNNING", "FINISHED"]
    assert [proposal.ref.n for proposal in sent] == [1, 2, 3]
    assert len({proposal.ref.epoch for proposal in sent}) == 1
    assert all(proposal.key == KEY.to_pb() for proposal in sent)


def test_unanswered_proposals_are_sent_again_in_order_with_every_hello(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=ended()))
    sent = desk.proposals()
    for _ in range(3):
        desk.attach([DriverTask(KEY, state=ended()).hello()])
        assert desk.proposals() == sent


def test_a_repeated_launch_is_no_second_task(desk: Desk) -> None:
    desk.attach([])
    for _ in range(2):
        desk.say(launch())
        desk.say(Request(task_state=active()))
    assert states(desk.proposals()) == ["STARTING", "RUNNING"]


def test_the_same_task_id_with_another_launch_number_is_another_task(desk: Desk) -> None:
    desk.attach([])
    again = KEY._replace(launch=2)
    for key in (KEY, again):
        desk.say(launch(key))
        desk.say(Request(task_state=ended(key)))
        desk.say(forget(key))
    assert states(desk.proposals()) == ["STARTING", "FINISHED"] * 2
    newest = desk.reporter.task("task")
    assert newest is not None
    assert newest.key.launch == 2


def test_news_of_tasks_that_were_never_launched_or_are_forgotten_are_dropped(desk: Desk) -> None:
    desk.attach([])
    desk.say(Request(task_state=active()))
    desk.say(launch())
    desk.say(forget())
    desk.say(Request(task_state=active()))
    desk.say(Request(verdict=link_pb2.Verdict(key=KEY.to_pb())))
    desk.say(forget())
    assert desk.proposals() == []


def test_a_message_about_another_executors_task_ends_the_stream(desk: Desk) -> None:
    stranger = TaskKey(Executor("framework", "other", "x"), "task", 1)
    desk.attach([])
    assert desk.session is not None
    desk.say(launch(stranger))
    assert not desk.session.alive
    assert desk.session.ending is not None
    assert desk.session.ending[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert desk.reporter.task("task") is None


def test_an_unknown_message_of_a_newer_driver_is_ignored(desk: Desk) -> None:
    desk.attach([])
    desk.say(Request())
    assert desk.session is not None
    assert desk.session.alive


def test_the_drivers_own_terminal_status_silences_the_reporter(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    latch = link_pb2.Latch(state=mesos_pb2.TASK_KILLED, uuid=b"u", origin=link_pb2.LATCH_ORIGIN_DRIVER)
    desk.say(Request(latched=link_pb2.Latched(key=KEY.to_pb(), latch=latch)))
    desk.say(Request(task_state=ended()))
    assert desk.proposals() == []
    desk.restart()
    desk.attach([DriverTask(KEY, state=ended()).hello()])
    assert desk.proposals() == [], "journalled"


def test_a_health_change_waits_for_its_second_and_is_then_sent_by_the_timer(desk: Desk) -> None:
    driver = DriverTask(KEY)
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active(gated=True)))
    desk.say(Request(verdict=link_pb2.Verdict(key=KEY.to_pb(), version=1, passed=True)))
    settle(desk, driver)
    desk.clock.advance(0.2)
    desk.say(Request(verdict=link_pb2.Verdict(key=KEY.to_pb(), version=2, passed=True, healthy=False, message="503")))
    assert desk.proposals() == []
    desk.clock.advance(0.79)
    assert desk.proposals() == []
    desk.clock.advance(0.01)
    (update,) = desk.proposals()
    assert (update.status.healthy, update.status.reason, update.status.message) == (False, 29, "503")


def test_a_wall_clock_that_jumps_back_changes_nothing_but_timestamps(desk: Desk) -> None:
    driver = DriverTask(KEY)
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active()))
    desk.wall = 5.0
    desk.say(Request(task_state=ended()))
    settle(desk, driver)
    assert driver.states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    assert driver.accepted[-1].timestamp < 6.0


def test_what_operators_see_tells_deliveries_uuids_and_facts(desk: Desk) -> None:
    driver = DriverTask(KEY)
    desk.attach([])
    desk.say(launch())
    desk.say(Request(task_state=active()))
    (first, _) = desk.proposals()
    answer = driver.offer(first)
    desk.say(Request(answer=answer))
    view = desk.reporter.task("task")
    assert view is not None
    assert view.attached
    assert [entry.delivery for entry in view.statuses] == [
        reporter_pb2.DELIVERY_ACCEPTED,
        reporter_pb2.DELIVERY_PROPOSED,
    ]
    assert view.statuses[0].status.uuid == answer.uuid
    assert view.task_state == active()
    desk.say(Request(acknowledged=reporter_pb2.Acknowledged(key=KEY.to_pb(), ref=first.ref, uuid=answer.uuid)))
    desk.detach()
    view = desk.reporter.task("task")
    assert view is not None
    assert not view.attached
    assert view.statuses[0].delivery == reporter_pb2.DELIVERY_ACKNOWLEDGED
