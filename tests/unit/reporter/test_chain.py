"""The chain, row by row: which status comes next."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.reporter.chain import TRANSITIONS, Chain, Framework, Stage, stage_of
from services.reporter.mapping import TABLE, Situation
from services.reporter.updates import UPDATE_INTERVAL
from services.reporter.writer import StatusWriter
from trivet.link.v1 import link_pb2

ACTIVE, CLEANING = link_pb2.TASK_PHASE_ACTIVE, link_pb2.TASK_PHASE_CLEANING
FAILED, KILLED = link_pb2.TASK_PHASE_FAILED, link_pb2.TASK_PHASE_KILLED
SUCCESS = link_pb2.TASK_PHASE_SUCCESS
KILL, INVALID = link_pb2.END_CAUSE_KILL, link_pb2.END_CAUSE_INVALID
CAPABLE = Framework(partition_aware=True, task_killing_state=True)


def state(
    phase: link_pb2.TaskPhase = ACTIVE,
    *,
    version: int = 1,
    started: bool = False,
    gated: bool = False,
    cause: link_pb2.EndCause = link_pb2.END_CAUSE_UNSPECIFIED,
    aurora: bool = False,
    health_checked: bool = False,
    rebuilt: bool = False,
) -> link_pb2.TaskState:
    return link_pb2.TaskState(
        phase=phase,
        version=version,
        started=started,
        gated=gated,
        end_cause=cause,
        aurora=aurora,
        health_checked=health_checked or gated,
        rebuilt=rebuilt,
        message="said",
    )


def verdict(
    *, passed: bool = False, healthy: bool | None = None, dead: bool = False, version: int = 1
) -> link_pb2.Verdict:
    made = link_pb2.Verdict(passed=passed, dead=dead, version=version, message="probed")
    if healthy is not None:
        made.healthy = healthy
    return made


def all_steps(chain: Chain, now: float = 100.0) -> list[Situation]:
    """Everything that is due at `now`."""
    found = []
    writer = StatusWriter()
    while (step := chain.next_step(now)) is not None:
        found.append(step.situation)
        chain.advance(
            writer.write(
                step.situation, task_id="t", detail=step.detail, health_checked=step.health_checked, timestamp=0.0
            ),
            now,
        )
        assert len(found) < 10
    return found


def answered(chain: Chain) -> Chain:
    chain.running_open = False
    return chain


S = Situation


@pytest.mark.parametrize(
    ("stage", "told", "said", "expected"),
    [
        # STARTING
        (Stage.NEW, None, None, []),
        (Stage.NEW, state(link_pb2.TASK_PHASE_UNSPECIFIED), None, []),
        (Stage.NEW, state(ACTIVE), None, [S.ACCEPTED]),
        (Stage.NEW, state(ACTIVE, cause=INVALID), None, []),
        (Stage.NEW, state(FAILED, cause=INVALID), None, [S.REFUSED]),
        (Stage.NEW, state(FAILED, cause=INVALID, aurora=True), None, [S.REFUSED_AURORA]),
        (Stage.NEW, state(SUCCESS, started=True), None, [S.ACCEPTED, S.FINISHED]),
        (Stage.NEW, state(KILLED, cause=KILL), None, [S.ACCEPTED, S.KILLED_ON_REQUEST]),
        # RUNNING
        (Stage.NEW, state(ACTIVE, started=True), None, [S.ACCEPTED, S.RUNNING]),
        (Stage.STARTING, state(ACTIVE), None, []),
        (Stage.STARTING, state(ACTIVE, started=True), None, [S.RUNNING]),
        (Stage.STARTING, state(ACTIVE, started=True), verdict(), [S.RUNNING]),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), None, []),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), verdict(), []),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), verdict(healthy=True), []),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), verdict(passed=True), [S.GATE_PASSED]),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), verdict(passed=True, healthy=True), [S.GATE_PASSED]),
        (Stage.STARTING, state(ACTIVE, gated=True), verdict(passed=True), []),
        (Stage.STARTING, state(ACTIVE, started=True, gated=True), verdict(passed=True, dead=True), []),
        (Stage.STARTING, state(ACTIVE, started=True, cause=KILL), None, []),
        (Stage.STARTING, state(CLEANING, started=True, cause=link_pb2.END_CAUSE_PLAN), None, []),
        (Stage.STARTING, state(CLEANING, started=True), None, [S.RUNNING]),
        (Stage.STARTING, state(SUCCESS, started=True), None, [S.FINISHED]),
        (Stage.RUNNING, state(ACTIVE, started=True), None, []),
        # the end
        (Stage.RUNNING, state(SUCCESS, started=True), None, [S.FINISHED]),
        (Stage.RUNNING, state(FAILED, started=True), None, [S.FAILED]),
        (Stage.KILLING, state(KILLED, cause=KILL), None, [S.KILLED_ON_REQUEST]),
        (Stage.KILLING, state(ACTIVE, started=True), verdict(passed=True), []),
        (Stage.STARTING, state(FAILED, cause=INVALID), None, [S.REFUSED]),
        (Stage.OVER, state(SUCCESS, started=True), None, []),
        (Stage.OVER, state(ACTIVE, started=True), verdict(passed=True, healthy=False), []),
    ],
)
def test_what_comes_next(
    stage: Stage, told: link_pb2.TaskState | None, said: link_pb2.Verdict | None, expected: list[Situation]
) -> None:
    chain = Chain(stage=stage, framework=Framework(partition_aware=True))
    if told is not None:
        chain.take_state(told)
    if said is not None:
        chain.take_verdict(said)
    assert all_steps(chain) == expected


@pytest.mark.parametrize("cause", link_pb2.EndCause.values())
@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.RUNNING])
def test_killing_is_said_for_ends_that_somebody_asked_for(stage: Stage, cause: link_pb2.EndCause) -> None:
    chain = Chain(stage=stage, framework=CAPABLE)
    chain.take_state(state(CLEANING, started=True, cause=cause))
    killing = cause in {2, 3, 4, 5, 7, 9}
    unspecified_or_running = [S.RUNNING] if cause == 0 and stage is Stage.STARTING else []
    assert all_steps(chain) == ([S.BEING_KILLED] if killing else unspecified_or_running)


@pytest.mark.parametrize(
    ("framework", "told"),
    [
        (Framework(), state(CLEANING, cause=KILL)),
        (CAPABLE, state(CLEANING, cause=KILL, aurora=True)),
        (CAPABLE, state(CLEANING, cause=link_pb2.END_CAUSE_COMPLETION_TIME)),
    ],
)
def test_killing_is_not_said_without_capability_to_aurora_or_at_completion_time(
    framework: Framework, told: link_pb2.TaskState
) -> None:
    chain = Chain(stage=Stage.RUNNING, framework=framework)
    chain.take_state(told)
    assert all_steps(chain) == []


def test_killing_is_said_once_and_not_together_with_the_end() -> None:
    chain = Chain(stage=Stage.RUNNING, framework=CAPABLE)
    chain.take_state(state(CLEANING, cause=KILL))
    assert all_steps(chain) == [S.BEING_KILLED]
    assert all_steps(chain) == []
    ended = Chain(stage=Stage.RUNNING, framework=CAPABLE)
    ended.take_state(state(KILLED, cause=KILL))
    assert all_steps(ended) == [S.KILLED_ON_REQUEST]


def test_running_is_never_said_after_an_end_was_seen_whatever_comes_later() -> None:
    chain = Chain(stage=Stage.STARTING)
    chain.take_state(state(CLEANING, started=True, cause=KILL, version=2))
    chain.take_state(state(ACTIVE, started=True, version=3))
    assert all_steps(chain) == []


def running(*, gated: bool = True, now: float = 100.0) -> Chain:
    chain = Chain()
    chain.take_state(state(ACTIVE, started=True, gated=gated, health_checked=True))
    chain.take_verdict(verdict(passed=True))
    assert all_steps(chain, now)[-1] in (S.GATE_PASSED, S.RUNNING)
    return answered(chain)


def test_a_health_change_is_told_with_the_newest_value() -> None:
    chain = running()
    chain.take_verdict(verdict(passed=True, healthy=False, version=2))
    assert all_steps(chain, 200.0) == [S.TURNED_UNHEALTHY]
    chain = answered(chain)
    assert all_steps(chain, 300.0) == []
    chain.take_verdict(verdict(passed=True, healthy=True, version=3))
    assert all_steps(chain, 300.0) == [S.TURNED_HEALTHY]


def test_health_of_a_gated_task_is_not_told_twice_after_running() -> None:
    chain = running()
    chain.take_verdict(verdict(passed=True, healthy=True, version=2))
    assert all_steps(chain, 200.0) == []


def test_the_first_result_of_a_task_without_gate_is_told() -> None:
    chain = running(gated=False)
    assert chain.told_healthy is None
    chain.take_verdict(verdict(healthy=True, version=2))
    assert all_steps(chain, 200.0) == [S.TURNED_HEALTHY]


def test_health_changes_are_a_second_apart_and_wake_up_in_time() -> None:
    chain = running(now=100.0)
    chain.take_verdict(verdict(passed=True, healthy=False, version=2))
    assert all_steps(chain, 100.4) == []
    assert chain.next_wakeup(100.4) == 100.0 + UPDATE_INTERVAL
    assert all_steps(chain, 101.0) == [S.TURNED_UNHEALTHY]
    assert chain.next_wakeup(101.0) is None


def test_a_flap_within_the_second_is_not_told_at_all() -> None:
    chain = running(now=100.0)
    chain.take_verdict(verdict(passed=True, healthy=False, version=2))
    assert all_steps(chain, 100.2) == []
    chain.take_verdict(verdict(passed=True, healthy=True, version=3))
    assert chain.next_wakeup(100.4) is None
    assert all_steps(chain, 101.0) == []


def test_at_most_one_health_update_waits_for_its_answer() -> None:
    chain = running()
    chain.take_verdict(verdict(passed=True, healthy=False, version=2))
    assert all_steps(chain, 200.0) == [S.TURNED_UNHEALTHY]
    chain.take_verdict(verdict(passed=True, healthy=True, version=3))
    assert all_steps(chain, 300.0) == []
    assert chain.next_wakeup(300.0) is None
    assert all_steps(answered(chain), 300.0) == [S.TURNED_HEALTHY]


def test_a_clock_of_another_boot_does_not_hold_health_back() -> None:
    chain = running(now=9e9)
    chain.take_verdict(verdict(passed=True, healthy=False, version=2))
    assert chain.next_wakeup(5.0) == 5.0
    assert all_steps(chain, 5.0) == [S.TURNED_UNHEALTHY]


def test_health_is_not_told_of_tasks_without_check_before_running_or_after_the_end_began() -> None:
    unchecked = Chain(stage=Stage.RUNNING)
    unchecked.take_state(state(ACTIVE, started=True))
    unchecked.take_verdict(verdict(healthy=False))
    assert all_steps(unchecked) == []
    starting = Chain(stage=Stage.STARTING)
    starting.take_state(state(ACTIVE, started=True, gated=True))
    starting.take_verdict(verdict(healthy=False))
    assert all_steps(starting) == []
    ending = running()
    ending.take_state(state(CLEANING, started=True, gated=True, cause=KILL, version=9))
    ending.take_verdict(verdict(healthy=False, version=9))
    assert all_steps(ending, 500.0) == []
    assert ending.next_wakeup(500.0) is None


def test_older_news_are_ignored_and_equal_ones_change_nothing() -> None:
    chain = Chain(stage=Stage.STARTING)
    assert chain.take_state(state(ACTIVE, started=True, version=5))
    assert not chain.take_state(state(ACTIVE, version=4))
    assert chain.take_verdict(verdict(passed=True, version=5))
    assert not chain.take_verdict(verdict(version=4))
    assert chain.state is not None
    assert chain.state.started


def test_a_rebuilt_runner_and_a_hello_may_count_from_the_start_again() -> None:
    chain = Chain(stage=Stage.STARTING)
    chain.take_state(state(ACTIVE, version=50))
    assert chain.take_state(state(ACTIVE, started=True, version=2, rebuilt=True))
    assert not chain.take_state(state(ACTIVE, version=1, rebuilt=True))
    assert chain.take_state(state(ACTIVE, version=1), whole=True)
    assert chain.take_verdict(verdict(version=9))
    assert chain.take_verdict(verdict(version=1), whole=True)


@pytest.mark.parametrize(
    ("accepted", "gated", "stage", "told"),
    [
        ([], True, Stage.NEW, None),
        ([mesos_pb2.TASK_STARTING], True, Stage.STARTING, None),
        ([mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING], True, Stage.RUNNING, True),
        ([mesos_pb2.TASK_STARTING, *[mesos_pb2.TASK_RUNNING] * 2], True, Stage.RUNNING, False),
        ([mesos_pb2.TASK_STARTING, *[mesos_pb2.TASK_RUNNING] * 3], True, Stage.RUNNING, True),
        ([mesos_pb2.TASK_STARTING, mesos_pb2.TASK_RUNNING], False, Stage.RUNNING, None),
        ([mesos_pb2.TASK_RUNNING, mesos_pb2.TASK_KILLING], False, Stage.KILLING, None),
        ([mesos_pb2.TASK_STARTING, mesos_pb2.TASK_DROPPED], False, Stage.OVER, None),
    ],
)
def test_a_chain_goes_on_where_the_accepted_statuses_end(
    accepted: list[int], gated: bool, stage: Stage, told: bool | None
) -> None:
    chain = Chain()
    chain.take_accepted(accepted, gated=gated)
    assert (chain.stage, chain.told_healthy) == (stage, told)


def test_every_row_leads_forward_to_the_stage_that_its_status_stands_for() -> None:
    says = {
        0: [S.REFUSED, S.REFUSED_AURORA],
        1: [S.ACCEPTED],
        2: [S.RUNNING, S.GATE_PASSED],
        3: [S.TURNED_HEALTHY, S.TURNED_UNHEALTHY],
        4: [S.BEING_KILLED],
        5: [S.FINISHED, S.FAILED, S.KILLED, S.LOST],
    }
    assert len(says) == len(TRANSITIONS)
    for index, row in enumerate(TRANSITIONS):
        assert {stage_of(TABLE[situation].state) for situation in says[index]} == {row.to}
        assert all(stage <= row.to for stage in row.stages)
