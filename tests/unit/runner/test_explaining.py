"""What the runner tells for explaining: ended runs and recorded end requests, few of each, also after compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.runner.budgets import Request
from services.runner.processes import Exit, ProcessState, Run
from services.runner.records import Cause, EndRecord, Moment, Phase, PhaseRecord, RunRecord, decode, encode
from services.runner.state import KEEP_ENDS, State, apply, snapshot
from tests.unit.runner.rig import Rig, in_loop
from tests.unit.runner.world import DONE, A, proc, running, spec
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from pathlib import Path


def ended(state: State) -> list[tuple[str, int]]:
    return [(run.process, run.run) for run in state.ended]


def troubled(state: State) -> list[tuple[str, int]]:
    return [(run.process, run.run) for run in state.troubled]


def compacted(state: State) -> State:
    copy = State.new(state.spec)
    apply(copy, decode(encode(snapshot(state, Moment(0.0, 0.0)))))
    return copy


def run_once(state: State, number: int, at: float, outcome: ProcessState) -> None:
    code = 0 if outcome is ProcessState.SUCCESS else 1
    for step in (ProcessState.WAITING, ProcessState.FORKED, ProcessState.RUNNING, outcome):
        apply(state, RunRecord(Moment(at, 1e9 + at), "a", number, step, code=code if step is outcome else None))


def test_the_newest_ends_are_kept_and_failures_apart() -> None:
    state = State.new(spec(proc("a", daemon=True, max_failures=0)))
    apply(state, PhaseRecord(Moment(0.0, 1e9), Phase.ACTIVE))
    for number in range(3 * KEEP_ENDS):
        run_once(state, number, float(number), ProcessState.FAILED if number % 4 == 0 else ProcessState.SUCCESS)
    expected = [("a", number) for number in range(3 * KEEP_ENDS)]
    for told in (state, compacted(state)):
        assert ended(told) == expected[-KEEP_ENDS:]
        assert troubled(told) == expected[::4][-KEEP_ENDS:]


def test_of_many_end_requests_the_cause_and_the_newest_are_kept() -> None:
    state = State.new(spec(A))
    apply(state, PhaseRecord(Moment(0.0, 1e9), Phase.ACTIVE))
    for number in range(2 * KEEP_ENDS):
        cause = Cause.SHUTDOWN if number else Cause.KILL
        at = Moment(float(number), 1e9 + number)
        apply(state, EndRecord(at, cause, Phase.KILLED, 90.0 - number, 100.0 - number, number, f"no {number}"))
    for told in (state, compacted(state)):
        numbers = [0, *range(KEEP_ENDS + 1, 2 * KEEP_ENDS)]
        assert [message for _, message, _, _ in told.endings] == [f"no {number}" for number in numbers]
        assert told.endings[0] == (Cause.KILL, "no 0", 1e9, 100.0)


def test_a_repeat_that_shortens_nothing_is_not_told() -> None:
    world = running(spec(A))
    for grace in (5.0, 9.0, 2.0):
        world.end(Request(Cause.KILL, grace=grace))
    assert [within for _, _, _, within in world.state.endings] == [5.0, 2.0]


def test_a_driver_hears_of_failures_at_once_and_of_all_ends_with_the_end(tmp_path: Path) -> None:
    def scenario() -> None:
        rig = Rig(tmp_path)
        session = rig.attach()
        key = rig.launch(session)
        rig.exit(session, key, code=7)
        told = [message.task_state for message in session.sent if message.WhichOneof("message") == "task_state"]
        assert not told[0].run_ends
        last = told[-1]
        assert [(end.process, end.run, end.exit.code) for end in last.run_ends] == [("p", 0, 7)]
        assert [(end.cause, end.message) for end in last.endings] == [
            (link_pb2.END_CAUSE_PLAN, "process 'p' failed: exit code 7 (run 1 of at most 1)")
        ]
        assert last.run_ends[0].at == last.endings[0].at == last.phase_at == 6000.0

    in_loop(scenario)


def test_a_success_is_no_trouble() -> None:
    world = running(spec(A))
    world.exit(("a", 0), DONE)
    world.settle()
    assert [(run.exit, type(run)) for run in world.state.ended] == [(Exit(code=0), Run)]
    assert not world.state.troubled
