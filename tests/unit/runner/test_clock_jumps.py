"""The wall clock may be stepped to anywhere at any time: it is only shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.runner.processes import Exit
from services.runner.records import Cause, Moment, Record, SnapshotRecord
from services.runner.service import clock
from services.runner.tasks import next_wakeup
from tests.effort import examples
from tests.unit.runner.rig import Rig, in_loop
from tests.unit.runner.test_task_properties import REQUESTS, STEPS, perform, specs
from tests.unit.runner.world import KILL, World
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from services.runner.budgets import Request
    from services.runner.spec import TaskSpec

# A century back and forth.
WALLS = st.lists(st.floats(-3e9, 3e9), min_size=1, max_size=30)


class SteppedWorld(World):
    """Its wall clock shows another time whenever somebody looks."""

    def __init__(self, spec: TaskSpec, walls: list[float]) -> None:
        super().__init__(spec)
        self._walls = walls
        self._looked = 0

    def moment(self) -> Moment:
        self._looked += 1
        return Moment(self.now, self._walls[self._looked % len(self._walls)])


def without_wall(records: list[Record]) -> list[Record]:
    assert not any(isinstance(record, SnapshotRecord) for record in records)
    return [record._replace(at=Moment(record.at.boot, 0.0)) for record in records]


@settings(max_examples=examples(150), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=40), WALLS)
def test_steps_of_the_wall_clock_change_no_decision_no_duration_and_no_version(
    spec: TaskSpec, steps: list[tuple[str, int, Request]], walls: list[float]
) -> None:
    worlds = World(spec), SteppedWorld(spec, walls)
    for world in worlds:
        world.launch()
    for step, number, request in steps:
        for world in worlds:
            perform(world, step, number, request)
        steady, stepped = worlds
        assert next_wakeup(steady.state) == next_wakeup(stepped.state)
        assert steady.to_hands == stepped.to_hands
        assert steady.state.version == stepped.state.version
    for world in worlds:
        world.end(KILL)
        world.run_out(Exit(code=0))
    steady, stepped = worlds
    assert without_wall(steady.records) == without_wall(stepped.records)
    assert (steady.started, steady.terminates, steady.asked) == (stepped.started, stepped.terminates, stepped.asked)
    assert (steady.now, steady.state.phase) == (stepped.now, stepped.state.phase)


def test_leases_retries_and_deadlines_run_on_while_the_wall_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scenario() -> None:
        now = {"wall": 1e9, "boot": 1000.0}
        # The service's own clock, both of its sources in our hands.
        monkeypatch.setattr(time, "time", lambda: now["wall"])
        monkeypatch.setattr(time, "clock_gettime", lambda number: {time.CLOCK_BOOTTIME: now["boot"]}[number])
        assert clock() == Moment(1000.0, 1e9)
        monkeypatch.setattr(Rig, "clock", lambda _: clock())
        rig = Rig(tmp_path)
        session = rig.attach()
        retried: dict[str, Any] = {"name": "p", "cmdline": "x", "max_failures": 0, "min_duration": 5}
        key = rig.launch(session, processes=[retried])
        now["wall"] = 4e9
        rig.exit(session, key, code=1)
        for step, wall, starts in ((4.9, 0.0, 1), (0.2, 5e9, 2)):
            now["boot"] += step
            now["wall"] = wall
            rig.runner._alarms._fire()
            assert sum(message.HasField("start") for message in session.sent) == starts
        request = link_pb2.EndRequest(cause=link_pb2.END_CAUSE_KILL, seq=1, grace_secs=7)
        now["wall"] = -1e9
        rig.say(session, end=link_pb2.End(key=key.to_pb(), request=request))
        (terminate,) = [message.terminate for message in session.sent if message.HasField("terminate")]
        assert terminate.kill_at == now["boot"] + 7
        rig.runner.on_detach(session)
        for step, wall, phase in ((59.9, 9e9, link_pb2.TASK_PHASE_CLEANING), (0.2, 1.0, link_pb2.TASK_PHASE_LOST)):
            now["boot"] += step
            now["wall"] = wall
            rig.runner._alarms._fire()
            assert rig.queries.get("t1").task.state.phase == phase
        rig.runner.close()

    in_loop(scenario)


def test_of_two_tasks_of_one_id_the_newer_is_meant_whatever_the_wall_clock_said(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        walls = iter([5e9] * 3 + [1e9] * 10)
        boot = iter(range(1000, 1100))
        rig.clock = lambda: Moment(float(next(boot)), next(walls, 1e9))  # type: ignore[method-assign]
        rig.runner._clock = rig.clock
        session = rig.attach()
        first = rig.launch(session)
        info = rig.runner.books[first].head.info
        for launch, key in ((1, first), (2, first._replace(launch=2))):
            if launch == 2:
                rig.say(session, launch=link_pb2.Launch(key=key.to_pb(), info=info))
            rig.exit(session, key)
            assert rig.runner.books[key].state.cause is Cause.PLAN
        assert rig.queries.get("t1").task.state.key.launch == 2

    in_loop(scenario)
