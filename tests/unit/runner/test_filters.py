"""ListTasks with conditions and pages, and who is meant when several tasks have one id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from services.common.keys import Executor
from services.runner.errors import AmbiguousTask, BadRequest, UnknownTask
from services.runner.filters import MAX_PATTERN
from tests.unit.runner.rig import Rig, in_loop
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from pathlib import Path

ONE = Executor("fw", "ex", "i1")
TWO = Executor("fw", "ex2", "i1")
THREE = Executor("fw3", "ex", "i1")


def ids(rig: Rig, **conditions: Any) -> list[str]:
    page = rig.queries.page(runner_pb2.ListTasksRequest(**conditions))
    return sorted(task.state.key.task_id for task in page.tasks)


def filled(path: Path) -> Rig:
    """Three active tasks of two executors, one that is being ended, one that is over."""
    rig = Rig(path)
    one, two = rig.attach(executor=ONE), rig.attach(executor=TWO)
    rig.launch(one, "web-1")
    rig.launch(one, "web-2")
    rig.launch(two, "db-1")
    rig.launch(two, "web*")
    ended = rig.launch(two, "web-9")
    rig.say(two, forget=link_pb2.Forget(key=ended.to_pb()))
    rig.queries.kill("web-2", 5.0)
    return rig


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["db-1", "web*", "web-1", "web-2", "web-9"]),
        ({"active_only": True}, ["db-1", "web*", "web-1", "web-2"]),
        ({"ended_only": True}, ["web-9"]),
        ({"phases": [link_pb2.TASK_PHASE_CLEANING]}, ["web-2"]),
        ({"phases": [link_pb2.TASK_PHASE_LOST, link_pb2.TASK_PHASE_CLEANING]}, ["web-2", "web-9"]),
        ({"phases": [link_pb2.TASK_PHASE_LOST], "active_only": True}, []),
        ({"task_id": "web-?"}, ["web-1", "web-2", "web-9"]),
        ({"task_id": "web"}, []),
        ({"task_id": "*1"}, ["db-1", "web-1"]),
        ({"task_id": "web[*]"}, ["web*"]),
        ({"task_id": "[dx]b-[0-9]"}, ["db-1"]),
        ({"executor_id": "ex2"}, ["db-1", "web*", "web-9"]),
        ({"executor_id": "ex2", "task_id": "web-*"}, ["web-9"]),
        ({"framework_id": "other"}, []),
        ({"name": "n*", "active_only": True}, []),
        ({"name": "p", "active_only": True}, ["db-1", "web*", "web-1", "web-2"]),
    ],
)
def test_all_conditions_must_hold(tmp_path: Path, conditions: dict[str, Any], expected: list[str]) -> None:
    def scenario() -> None:
        assert ids(filled(tmp_path), **conditions) == expected

    in_loop(scenario)


def test_conditions_that_cannot_be_are_named(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        for conditions, message in (
            ({"active_only": True, "ended_only": True}, "^ended_only: "),
            ({"task_id": "x" * (MAX_PATTERN + 1)}, "^task_id: at most"),
            ({"name": "x" * (MAX_PATTERN + 1)}, "^name: at most"),
            ({"page_token": "../etc"}, "^page_token: "),
        ):
            with pytest.raises(BadRequest, match=message):
                ids(rig, **conditions)
        # Hostile patterns end, too.
        rig.launch(rig.attach(), "a" * 200)
        assert ids(rig, task_id="*a" * 400 + "b") == []
        assert ids(rig, task_id="[") == []

    in_loop(scenario)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_every_task_that_stays_is_on_exactly_one_page_whatever_comes_and_goes(tmp_path: Path, size: int) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        staying = [rig.launch(session, f"s{number}").task_id for number in range(10)]
        leaving = [rig.launch(session, f"l{number}") for number in range(10)]
        seen: list[str] = []
        token = ""
        number = 0
        while True:
            page = rig.queries.page(runner_pb2.ListTasksRequest(page_size=size, page_token=token, active_only=True))
            assert len(page.tasks) <= size
            seen += [task.state.key.task_id for task in page.tasks]
            token = page.next_page_token
            if not token:
                break
            number += 1
            rig.launch(session, f"n{number}")
            if leaving:
                rig.say(session, forget=link_pb2.Forget(key=leaving.pop().to_pb()))
        assert sorted(task_id for task_id in seen if task_id in staying) == sorted(staying)
        assert len(seen) == len(set(seen))

    in_loop(scenario)


def test_the_last_page_is_not_followed_by_an_empty_one(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        for number in range(4):
            rig.launch(session, f"t{number}")
            rig.launch(session, f"x{number}")
        first = rig.queries.page(runner_pb2.ListTasksRequest(page_size=2, task_id="t*"))
        second = rig.queries.page(
            runner_pb2.ListTasksRequest(page_size=2, task_id="t*", page_token=first.next_page_token)
        )
        assert first.next_page_token
        assert not second.next_page_token
        assert len(first.tasks) == len(second.tasks) == 2

    in_loop(scenario)


def test_nothing_is_done_to_a_task_when_several_may_be_meant(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        sessions = [rig.attach(executor=executor) for executor in (ONE, TWO, THREE)]
        for session in sessions:
            rig.launch(session)
        unclear: list[tuple[str, ...]] = [(), ("ex",)]
        for names in unclear:
            with pytest.raises(AmbiguousTask, match=r"'ex' of framework 'fw', .*'ex' of framework 'fw3'"):
                rig.queries.kill("t1", None, *names)
            with pytest.raises(AmbiguousTask):
                rig.queries.get("t1", *names)
            with pytest.raises(AmbiguousTask):
                rig.queries.find("t1", *names)
        assert rig.queries.kill("t1", None, "ex", "fw3").key.executor == THREE.to_pb()
        assert rig.queries.kill("t1", None, "ex2").key.executor == TWO.to_pb()
        causes = [book.state.cause for book in rig.runner.books.values()]
        assert causes.count(None) == 1
        for executor_id, framework_id in (("none", ""), ("ex2", "fw3")):
            with pytest.raises(UnknownTask):
                rig.queries.kill("t1", None, executor_id, framework_id)

    in_loop(scenario)


@pytest.mark.parametrize("task_id", ["t", "t1 ", "T1", "t*", "", "t11"])
def test_only_the_exact_id_is_killed(tmp_path: Path, task_id: str) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        rig.launch(rig.attach())
        with pytest.raises(UnknownTask):
            rig.queries.kill(task_id, None)

    in_loop(scenario)


def test_a_live_task_is_meant_before_one_that_is_over(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        one, two = rig.attach(executor=ONE), rig.attach(executor=TWO)
        over = rig.launch(one)
        rig.launch(two)
        latch = link_pb2.Latch(state=1, uuid=b"u", origin=link_pb2.LATCH_ORIGIN_DRIVER)
        rig.say(one, latched=link_pb2.Latched(key=over.to_pb(), latch=latch))
        assert rig.runner.books[over].state.over
        assert rig.queries.get("t1").task.state.key.executor == TWO.to_pb()
        assert rig.queries.get("t1", "ex").task.state.key.executor == ONE.to_pb()

    in_loop(scenario)
