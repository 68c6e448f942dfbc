"""What a Hello and its absence do to the books, row by row (design: Hello)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from services.common.keys import Executor, TaskKey
from services.runner.records import Phase
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path

from tests.unit.runner.rig import EXECUTOR, Rig, in_loop

OTHER = Executor("fw", "ex2", "i1")


def test_an_executor_that_was_started_anew_loses_the_tasks_of_the_old_one_only(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        other = Executor("fw", "ex2", "i1")
        rig.launch(rig.attach())
        kept = rig.launch(rig.attach(executor=other), "t2")
        rig.attach(executor=EXECUTOR._replace(incarnation="i2"))
        assert list(rig.runner.books) == [kept]
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)


def test_a_hello_of_another_boot_loses_the_tasks_of_the_old_one(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = rig.launch(rig.attach())
        rig.attach(link_pb2.HelloTask(key=key.to_pb()), boot="boot-2")
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)


def test_a_forget_that_was_lost_is_made_up_for_by_the_next_hello(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        rig.exit(session, key)
        rig.attach()
        assert rig.runner.books == {}
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_SUCCESS

    in_loop(scenario)


def test_a_task_that_is_lost_for_us_and_comes_back_is_killed_and_told_so(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = rig.launch(rig.attach())
        rig.attach()
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        hands = link_pb2.HandsState(runs=[running], alive=1)
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb(), hands=hands))
        terminate, told = session.sent
        assert terminate.terminate.kill_at == 0.0
        assert told.task_state.phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)


def test_a_summary_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        rig.exit(session, key)
        # The name of the temporary file is taken by a directory: a real refusal by the kernel.
        obstacle = f"{rig.runner.books[key].log.path}.new"
        os.mkdir(obstacle)
        rig.forget(session, key)
        assert key in rig.runner.books
        os.rmdir(obstacle)
        rig.runner._ring((key, "journal"), rig.now)
        assert rig.runner.books == {}
        assert rig.archive.task_keys() == [key]

    in_loop(scenario)


def test_a_lease_counts_from_the_loss_of_the_link(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        rig.launch(session)
        rig.now += 100
        rig.runner.on_detach(session)
        # The clock only moves here: what the alarm would do is done by hand.
        rig.now += 61
        rig.runner._ring(EXECUTOR, 1160.0)
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)


def test_an_executor_that_does_not_come_back_after_a_restart_has_one_lease_from_then_on(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        rig.launch(rig.attach())
        rig.launch(rig.attach(executor=OTHER), "t2")
        rig.runner.close()
        rig = Rig(tmp_path)
        # The replay may have taken long: that is not the executors' time.
        rig.now += 500
        rig.runner.start_leases()
        rig.attach(link_pb2.HelloTask(key=TaskKey(OTHER, "t2", 1).to_pb()), executor=OTHER)
        rig.now += 59
        rig.runner._alarms._fire()
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_ACTIVE
        rig.now += 1
        rig.runner._alarms._fire()
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_LOST
        assert rig.queries.get("t2").task.state.phase == link_pb2.TASK_PHASE_ACTIVE
        rig.runner.close()

    in_loop(scenario)


def test_a_runner_that_was_not_running_itself_blames_nobody(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        rig.launch(session)
        rig.runner.on_detach(session)
        rig.now += 600
        rig.runner._ring(EXECUTOR, 1060.0)
        assert rig.queries.get("t1").task.state.phase == link_pb2.TASK_PHASE_ACTIVE

    in_loop(scenario)


def test_news_of_the_hands_that_come_before_the_task_are_not_lost(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = TaskKey(EXECUTOR, "t1", 1)
        running = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_RUNNING, pid=5)
        hands = link_pb2.HandsState(runs=[running], alive=1)
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb(), hands=hands))
        assert session.sent[-1].need_task.key == key.to_pb()
        rig.exit(session, key)
        rig.launch(session)
        state = session.sent[-1].task_state
        assert (state.phase, state.rebuilt) == (link_pb2.TASK_PHASE_SUCCESS, True)
        assert not any(message.HasField("start") for message in session.sent)

    in_loop(scenario)


def test_an_end_that_comes_before_the_task_starts_nothing(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        key = TaskKey(EXECUTOR, "t1", 1)
        session = rig.attach(link_pb2.HelloTask(key=key.to_pb()))
        request = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1)
        rig.say(session, end=link_pb2.End(key=key.to_pb(), request=request))
        rig.launch(session)
        assert session.sent[-1].task_state.phase == link_pb2.TASK_PHASE_KILLED
        assert not any(message.HasField("start") for message in session.sent)

    in_loop(scenario)


def test_messages_on_an_old_stream_are_dropped(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        old = rig.attach()
        key = rig.launch(old)
        rig.attach(link_pb2.HelloTask(key=key.to_pb()))
        rig.exit(old, key)
        assert rig.runner.books[key].state.phase is Phase.ACTIVE
        rig.runner.on_detach(old)
        assert rig.runner.attached(key)

    in_loop(scenario)
