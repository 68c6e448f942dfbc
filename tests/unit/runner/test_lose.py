"""Lose: what an operator orders when nobody else ends a task (Thermos: task state machine, LOST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.common.keys import Executor
from services.runner.budgets import Request
from services.runner.errors import AmbiguousTask, UnknownTask
from services.runner.events import HandsSeen, Terminate
from services.runner.records import Cause, Phase
from tests.unit.runner.rig import Rig, in_loop
from tests.unit.runner.world import BOOT, A, F, World, facts, phase_of, proc, replayed, running, spec, states
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path


def test_lose_kills_at_once_skips_finalizers_and_ends_as_lost() -> None:
    world = running(spec(A, proc("b"), F))
    world.end(Request(Cause.LOSE, grace=500.0))
    assert list(world.to_hands) == [Terminate(BOOT)]
    world.settle()
    assert (phase_of(world), world.state.cause) == (Phase.LOST, Cause.LOSE)
    assert world.state.message == "Given up by an operator"
    assert ("f", 0) not in world.runs
    assert facts(replayed(world.spec, world.records)) == facts(world.state)


def test_lose_waits_until_nothing_is_left() -> None:
    world = running(spec(A))
    world.end(Request(Cause.LOSE))
    world.take(HandsSeen((), 1))
    assert phase_of(world) is Phase.CLEANING
    world.settle()
    assert phase_of(world) is Phase.LOST


def test_lose_of_a_task_that_is_being_killed_keeps_its_cause_and_takes_its_time() -> None:
    world = running(spec(A, F))
    world.end(Request(Cause.KILL))
    world.settle()
    world.pass_time(2.0)
    world.end(Request(Cause.LOSE, seq=2))
    world.settle()
    assert world.terminates == [BOOT + 30.0, BOOT]
    assert (phase_of(world), world.state.cause) == (Phase.KILLED, Cause.KILL)
    assert ("f", 0) not in world.runs


def test_lose_before_anything_ran() -> None:
    world = World(spec(A, F))
    world.take(HandsSeen((), 0, hello=True), Request(Cause.LOSE))
    assert (phase_of(world), states(world)) == (Phase.LOST, {})


def test_lose_by_an_operator(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        other = rig.attach(executor=Executor("fw", "ex2", "i1"))
        rig.launch(other)
        with pytest.raises(UnknownTask):
            rig.queries.lose("t", "")
        with pytest.raises(AmbiguousTask, match=r"'ex' .*, 'ex2'"):
            rig.queries.lose("t1", "")
        session.sent.clear()
        other.sent.clear()
        state = rig.queries.lose("t1", "ex")
        assert state.end_cause == link_pb2.END_CAUSE_LOSE
        assert rig.queries.lose("t1", "ex") == state
        assert [m.terminate.kill_at for m in session.sent if m.HasField("terminate")] == [rig.now]
        assert other.sent == []
        killed = link_pb2.Run(process="p", run=0, state=link_pb2.RUN_STATE_EXITED, exit=link_pb2.Exit(signal=9))
        rig.say(session, hands=link_pb2.Hands(key=key.to_pb(), state=link_pb2.HandsState(runs=[killed])))
        assert rig.queries.lose("t1", "ex").phase == link_pb2.TASK_PHASE_LOST

    in_loop(scenario)
