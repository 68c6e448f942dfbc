"""All tasks of all executors, with a real store: Hellos that disagree, damage, a full disk, bounded memory."""

from __future__ import annotations

import contextlib
import copy
import os
import resource
from typing import TYPE_CHECKING

import grpc
import pytest

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from tests.unit.reporter.desk import Desk
from tests.unit.reporter.driver_model import EXECUTOR, DriverTask, hello
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Request = reporter_pb2.AttachRequest
KEY = TaskKey(EXECUTOR, "task", 1)


def active(key: TaskKey = KEY, *, version: int = 1, started: bool = True, gated: bool = False) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=key.to_pb(),
        version=version,
        phase=link_pb2.TASK_PHASE_ACTIVE,
        started=started,
        gated=gated,
        health_checked=gated,
    )


def ended(key: TaskKey = KEY, *, version: int = 9) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        key=key.to_pb(),
        version=version,
        phase=link_pb2.TASK_PHASE_SUCCESS,
        started=True,
        end_cause=link_pb2.END_CAUSE_PLAN,
        message="done",
    )


def launch(key: TaskKey = KEY) -> reporter_pb2.AttachRequest:
    return Request(launch=link_pb2.Launch(key=key.to_pb(), info=b"info"))


def forget(key: TaskKey = KEY) -> reporter_pb2.AttachRequest:
    return Request(forget=link_pb2.Forget(key=key.to_pb()))


def states(proposals: list[reporter_pb2.Proposal]) -> list[str]:
    return [mesos_pb2.TaskState.Name(proposal.status.state).removeprefix("TASK_") for proposal in proposals]


def files(desk: Desk) -> list[str]:
    return sorted(os.listdir(os.path.join(desk.state_dir, "tasks")))


def settle(desk: Desk, driver: DriverTask) -> None:
    for proposal in desk.proposals():
        desk.say(Request(answer=driver.offer(proposal)))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(str(tmp_path))
    yield made
    made.reporter.close()


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


def test_a_proposal_is_on_disk_before_it_is_sent(desk: Desk) -> None:
    desk.attach([])
    desk.say(launch())
    assert files(desk) == []
    desk.say(Request(task_state=active()))
    sent = desk.proposals()
    desk.restart()
    desk.attach([DriverTask(KEY, state=active()).hello()])
    assert desk.proposals() == sent


@pytest.mark.parametrize("accepted", [0, 1, 3])
def test_every_cut_of_the_journal_ends_in_the_same_row_of_statuses(tmp_path: Path, accepted: int) -> None:
    """The host dies and takes the end of the file; the driver has accepted so many of three proposals."""
    whole = Desk(str(tmp_path / "whole"))
    driver = DriverTask(KEY, state=ended())
    whole.attach([])
    for message in (launch(), Request(task_state=active()), Request(task_state=ended())):
        whole.say(message)
    for proposal in whole.proposals()[:accepted]:
        whole.say(Request(answer=driver.offer(proposal)))
    whole.reporter.close()
    (name,) = files(whole)
    data = (tmp_path / "whole" / "tasks" / name).read_bytes()
    for cut in range(len(data) + 1):
        folder = tmp_path / f"cut{cut}" / "tasks"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(data[:cut])
        part = Desk(str(folder.parent))
        told = copy.deepcopy(driver)
        part.attach([told.hello()])
        settle(part, told)
        assert part.proposals() == []
        # RUNNING is not made up for a task that is over, unless it was written down or accepted before.
        assert told.states in (
            ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
            ["TASK_STARTING", "TASK_FINISHED"],
        )
        part.reporter.close()


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


def test_a_damaged_journal_is_put_aside_and_its_task_taken_over_without_repeating_anything(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    other = KEY._replace(task_id="other")
    drivers = [DriverTask(KEY, state=active()), DriverTask(other, state=active(other))]
    desk.attach([driver.hello() for driver in drivers])
    for proposal in desk.proposals():
        drivers[proposal.key.task_id == "other"].offer(proposal)
    path = os.path.join(desk.state_dir, "tasks", KEY.file_name + ".journal")
    with open(path, "r+b") as file:
        file.seek(20)
        file.write(b"\xff\xff\xff")
    desk.restart()
    assert KEY.file_name + ".journal.damaged" in files(desk)
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "offset 8" in logged.fields["error"]  # type: ignore[attr-defined]  # from `extra`
    drivers[0].state, drivers[1].state = ended(), ended(other)
    desk.attach([driver.hello() for driver in drivers])
    for proposal in desk.proposals():
        drivers[proposal.key.task_id == "other"].offer(proposal)
    assert [driver.states for driver in drivers] == [["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]] * 2


@pytest.mark.parametrize(
    "content", [b"", b"TRVT", b"no journal at all", b"TRVTJ\0\0\1" + b"\2\0\0\0\xff\xff\xff\xff{}", b"TRVTJ\0\0\x09"]
)
def test_a_strange_file_does_not_keep_the_service_from_starting(desk: Desk, content: bytes) -> None:
    with open(os.path.join(desk.state_dir, "tasks", KEY.file_name + ".journal"), "wb") as file:
        file.write(content)
    desk.restart()
    desk.attach([DriverTask(KEY, state=active()).hello()])
    assert states(desk.proposals()) == ["STARTING", "RUNNING"]


def test_a_journal_under_another_tasks_name_is_put_aside(desk: Desk) -> None:
    desk.attach([DriverTask(KEY, state=active()).hello()])
    folder = os.path.join(desk.state_dir, "tasks")
    os.rename(os.path.join(folder, KEY.file_name + ".journal"), os.path.join(folder, "0" * 32 + ".journal"))
    desk.restart()
    assert files(desk) == ["0" * 32 + ".journal.damaged"]


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writes fail as on a full disk (EFBIG for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 30, 170, 200, 250])
def test_on_a_full_disk_statuses_are_held_back_and_follow_when_it_heals(desk: Desk, size: int) -> None:
    driver = DriverTask(KEY)
    desk.attach([])
    with full_disk(size):
        desk.say(launch())
        driver.state = ended()
        desk.say(Request(task_state=active()))
        desk.say(Request(task_state=ended()))
        desk.clock.advance(5.0)
        settle(desk, driver)
        assert driver.states != ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        assert desk.reporter.journal_errors > 1
    desk.clock.advance(1.0)
    settle(desk, driver)
    assert driver.states[0] == "TASK_STARTING"
    assert driver.states[-1] == "TASK_FINISHED"
    desk.restart()
    desk.attach([driver.hello()])
    assert desk.proposals() == []
    view = desk.reporter.task("task")
    assert view is not None
    assert [entry.delivery for entry in view.statuses] == [reporter_pb2.DELIVERY_ACCEPTED] * len(driver.states)


def test_answers_that_a_full_disk_swallows_are_learned_again_from_hello(desk: Desk) -> None:
    driver = DriverTask(KEY)
    desk.attach([])
    desk.say(launch())
    driver.state = active()
    desk.say(Request(task_state=driver.state))
    with full_disk(0):
        settle(desk, driver)
        assert desk.reporter.journal_errors == 2
    desk.restart()
    desk.attach([driver.hello()])
    assert desk.proposals() == []


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
