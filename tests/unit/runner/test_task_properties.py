"""Random tasks under random events: what must hold whatever happens."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runner.budgets import Request
from services.runner.events import VERDICTS, HandsSeen
from services.runner.intake import Recorder
from services.runner.plan import Slot
from services.runner.processes import Exit, ProcessState
from services.runner.records import Cause, Phase, RunRecord, decode, encode
from services.runner.spec import ProcessSpec, TaskSpec
from services.runner.state import State, apply, snapshot
from services.runner.tasks import decide
from tests.effort import examples
from tests.unit.runner.world import World, facts, replayed


@st.composite
def specs(draw: Any) -> TaskSpec:
    """Any task that the rules accept."""
    count = draw(st.integers(1, 6))
    processes = []
    for index in range(count):
        final = draw(st.integers(0, 3)) == 0
        daemon = draw(st.integers(0, 5)) == 0
        processes.append(
            ProcessSpec(
                name=f"p{index}",
                max_failures=draw(st.integers(0, 3)),
                # A daemon that ends at once and need not wait would run for ever in no time.
                min_duration=draw(st.sampled_from([1.0, 5.0] if daemon else [0.0, 1.0, 5.0])),
                daemon=daemon,
                ephemeral=draw(st.integers(0, 4)) == 0,
                final=final,
            )
        )
    successors: dict[str, tuple[str, ...]] = {}
    for index, process in enumerate(processes):
        followers = [
            other.name
            for other in processes[index + 1 :]
            if other.final == process.final
            and not process.daemon
            and (other.ephemeral or not process.ephemeral)
            and draw(st.booleans())
        ]
        successors[process.name] = tuple(followers)
    return TaskSpec(
        processes=tuple(processes),
        successors=successors,
        max_failures=draw(st.integers(0, 2)),
        max_concurrency=draw(st.integers(0, 3)),
        finalization_wait=draw(st.sampled_from([0.0, 3.0, 30.0])),
        kill_grace=draw(st.sampled_from([None, None, 0.0, 4.0])),
        run_limit=draw(st.sampled_from([0, 1, 3, 100, 100])),
        lifecycle=draw(st.sampled_from([(), (), (2.0, 3.0), (0.0, 100.0)])),
    )


EXITS = [Exit(code=0), Exit(code=0), Exit(code=1), Exit(code=3), Exit(signal=9), Exit()]
STEPS = st.sampled_from(
    [
        "hear",
        "hear",
        "deliver",
        "deliver",
        "exit",
        "exit",
        "time",
        "reconnect",
        "lose_line",
        "restart",
        "cut",
        "twice",
        "end",
        "swallow",
        "get_stuck",
        "answers",
    ]
)
REQUESTS = st.builds(
    Request,
    cause=st.sampled_from(
        [
            Cause.KILL,
            Cause.SHUTDOWN,
            Cause.UNHEALTHY,
            Cause.AGENT_GONE,
            Cause.COMPLETION_TIME,
            Cause.DISK_LIMIT,
            Cause.LOSE,
        ]
    ),
    seq=st.integers(1, 3),
    grace=st.sampled_from([None, 0.0, 1.0, 100.0]),
    deadline=st.sampled_from([0.0, 1001.0, 1040.0]),
)


def perform(world: World, step: str, number: int, request: Request) -> None:
    if step == "exit":
        living = world.living()
        if living:
            world.exit(living[number % len(living)], EXITS[number % len(EXITS)], leftovers=number % 5 == 0)
    elif step == "time":
        world.pass_time([0.1, 1.0, 5.0, 31.0][number % 4])
    elif step == "restart":
        world.restart()
        world.reconnect()
    elif step == "cut":
        # Cut between a decision's records and its actions: whatever was to be sent is not.
        world.to_hands.clear()
        world.restart()
        world.lose_line()
    elif step == "twice":
        world.take(HandsSeen(list(world.runs.values()), world.alive()))
    elif step == "answers":
        world.answers = not world.answers
    elif step == "end":
        if number % 4 == 0:
            world.end(request)
    else:
        getattr(world, step)()


@settings(max_examples=examples(250), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=60))
def test_whatever_happens_the_rules_hold(spec: TaskSpec, steps: list[tuple[str, int, Request]]) -> None:
    world = World(spec)
    world.launch()
    for step, number, request in steps:
        perform(world, step, number, request)
        assert facts(replayed(spec, world.records)) == facts(world.state)
    check_order(spec, world)

    # It always ends: what still runs exits well, and what never would is killed.
    if any(process.daemon for process in spec.processes):
        world.end(Request(Cause.KILL, seq=9))
    world.run_out(Exit(code=0))
    assert world.state.over
    assert world.alive() == 0
    assert not world.state.open
    check_order(spec, world)
    check_verdict(world)
    assert len(world.started) == len(set(world.started)), "a run was started twice"


def check_order(spec: TaskSpec, world: World) -> None:
    """No process is forked before all that it waits for has finished."""
    state = State.new(spec)
    for record in world.records:
        if isinstance(record, RunRecord) and record.state is ProcessState.FORKED:
            plan = state.plan_of(record.process)
            for before, after in spec.successors.items():
                if record.process in after:
                    assert plan.slot(before) is Slot.FINISHED
            assert (state.phase is Phase.ACTIVE) == (record.process in state.regular)
        apply(state, record)


def check_verdict(world: World) -> None:
    state = world.state
    assert state.cause is not None
    assert state.phase is state.verdict
    assert state.message
    if state.cause is not Cause.PLAN:
        assert state.phase is VERDICTS[state.cause]
    elif state.phase is Phase.SUCCESS:
        assert state.regular.complete


@settings(max_examples=examples(100), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=40), st.integers(0, 400))
def test_any_prefix_of_a_journal_is_a_task_that_can_go_on(
    spec: TaskSpec, steps: list[tuple[str, int, Request]], length: int
) -> None:
    world = World(spec)
    world.launch()
    for step, number, request in steps:
        perform(world, step, number, request)
    # The runner dies in the middle of a write: what it decided after this record was not sent. The hands may know more
    # than the journal, as they do after the loss of a whole journal.
    world.to_hands.clear()
    del world.records[max(1, length % (len(world.records) + 1)) :]
    world.restart()
    if not world.state.over:
        world.hello()
    if any(process.daemon for process in spec.processes):
        world.end(Request(Cause.KILL, seq=9))
    if world.state.over:
        return
    world.run_out(Exit(code=0))
    assert world.alive() == 0


@settings(max_examples=examples(100), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=40))
def test_a_compacted_journal_says_the_same(spec: TaskSpec, steps: list[tuple[str, int, Request]]) -> None:
    world = World(spec)
    world.launch()
    for step, number, request in steps:
        perform(world, step, number, request)
    state = State.new(spec)
    apply(state, decode(encode(snapshot(world.state, world.moment()))))
    assert facts(state) == facts(world.state)


@settings(max_examples=examples(100), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=40))
def test_old_news_change_nothing(spec: TaskSpec, steps: list[tuple[str, int, Request]]) -> None:
    world = World(spec)
    world.launch()
    for step, number, request in steps:
        perform(world, step, number, request)
    world.settle()
    seen = HandsSeen(list(world.runs.values()), world.alive())
    world.take(seen, *world.ends)
    again = decide(world.state, [seen, *world.ends], world.moment())
    assert again.records == []
    assert again.actions == []


@settings(max_examples=examples(60), deadline=None)
@given(specs(), st.lists(st.tuples(STEPS, st.integers(0, 1000), REQUESTS), max_size=40))
def test_any_prefix_of_the_journal_gives_the_state_that_was(
    spec: TaskSpec, steps: list[tuple[str, int, Request]]
) -> None:
    live: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        emit = Recorder.emit

        def emit_and_keep(recorder: Recorder, record: Any) -> None:
            emit(recorder, record)
            live.append(copy.deepcopy(facts(recorder.state)))

        patch.setattr(Recorder, "emit", emit_and_keep)
        world = World(spec)
        world.launch()
        for step, number, request in steps:
            perform(world, step, number, request)
    assert len(live) == len(world.records)
    state = State.new(spec)
    for record, then in zip(world.records, live, strict=True):
        apply(state, decode(encode(record)))
        assert facts(state) == then
