"""Journals of the reporter: written first, cut, damaged, and on a full disk."""

from __future__ import annotations

import contextlib
import copy
import os
import resource
from typing import TYPE_CHECKING

import pytest

from tests.unit.reporter.desk import KEY, Desk, Request, active, ended, files, launch, settle, states
from tests.unit.reporter.driver_model import DriverTask
from trivet.reporter.v1 import reporter_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
