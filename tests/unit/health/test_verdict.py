"""Both checks of a task together: one version, one verdict."""

from __future__ import annotations

from services.health import checks, verdict
from services.health.interpret import Meaning, Reading, Value
from services.health.model import (
    Action,
    Attached,
    Detached,
    Ending,
    Event,
    Kind,
    Phase,
    Plan,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Snooze,
    Started,
)
from services.health.rules import Limits, Memory
from services.health.verdict import Checks, Heard
from tests.unit.health.play import BAD, OK, T0

H, C = Kind.HEALTH, Kind.CHECK
PLANS = {H: Plan(Limits(15, 10, 0, 1), 1.0), C: Plan(Limits(0, 10, 0, 1), 1.0, gates=False)}
UP, DOWN = (Reading(Meaning.SUCCESS, str(up), Value(connected=up)) for up in (True, False))


class Pair:
    """A task with both checks, or with one of them."""

    def __init__(self, rules: dict[Kind, str] | None = None, plans: dict[Kind, Plan] | None = None) -> None:
        rules = rules or {H: "aurora-time", C: "check"}
        self.plans = plans or {kind: PLANS[kind] for kind in rules}
        self.task = Checks(0, {kind: checks.new(rule) for kind, rule in rules.items()})

    def do(self, event: Event | Heard, now: float = T0, kind: Kind | None = None) -> list[tuple[Kind, Action]]:
        self.task, actions = verdict.step(self.task, self.plans, event, now, kind)
        return actions

    def answer(self, kind: Kind, reading: Reading, now: float = T0) -> list[tuple[Kind, Action]]:
        flight = self.task.of[kind].flight
        assert flight is not None
        return self.do(Result(flight.id, reading), now, kind)

    @property
    def passed(self) -> bool:
        return verdict.passed(self.task, self.plans)


def named(actions: list[tuple[Kind, Action]]) -> list[tuple[Kind, type[Action]]]:
    return [(kind, type(action)) for kind, action in actions]


def test_each_check_is_probed_and_answered_on_its_own() -> None:
    pair = Pair()
    pair.do(Attached(0.5))
    assert named(pair.do(Started())) == [(H, Save), (C, Save), (H, SendProbe), (C, SendProbe)]
    assert named(pair.answer(C, UP)) == [(C, Save), (H, SendVerdict)]
    assert not pair.passed
    assert named(pair.answer(H, OK)) == [(H, Save), (H, SendVerdict)]
    assert pair.passed


def test_the_version_grows_with_each_change_of_either() -> None:
    pair = Pair()
    pair.do(Attached(0.5))
    pair.do(Started())
    versions = [pair.task.version]
    for kind, reading in ((H, OK), (C, UP)):
        pair.answer(kind, reading)
        versions.append(pair.task.version)
    assert versions == sorted(set(versions))
    # The clock goes on even when the journal is lost.
    later = Pair()
    later.do(Attached(0.5), T0 + 1)
    later.do(Started(), T0 + 1)
    later.answer(H, OK, T0 + 1)
    assert later.task.version > versions[-1]


def test_an_unhealthy_task_is_dead_whatever_its_other_check_finds() -> None:
    pair = Pair(plans={**PLANS, H: Plan(Limits(0, 10, 0, 1), 1.0)})
    pair.do(Attached(0.5))
    pair.do(Started())
    pair.answer(H, BAD)
    assert pair.task.of[H].rule.dead
    assert pair.task.of[H].phase is Phase.STOPPED
    assert pair.task.of[C].phase is Phase.PROBING
    assert pair.do(Ending()) == [(C, Save())]


def test_a_known_verdict_is_told_once_when_a_driver_comes() -> None:
    pair = Pair()
    pair.do(Attached(0.5))
    pair.do(Started())
    pair.answer(H, OK)
    pair.answer(C, UP)
    version = pair.task.version
    pair.do(Detached(), T0 + 1)
    assert named(pair.do(Attached(0.5), T0 + 2)) == [(H, SendVerdict)]
    assert pair.task.version == version


def test_without_a_gate_the_verdict_is_told_at_once() -> None:
    pair = Pair({C: "check"})
    assert named(pair.do(Attached(0.5))) == [(C, Save), (C, SendVerdict)]
    assert pair.passed
    assert pair.task.version > 0


def test_a_mesos_check_gates_only_where_it_was_asked_to() -> None:
    for gates in (False, True):
        pair = Pair({H: "mesos"}, {H: Plan(Limits(0, 10, 2, 1), 1.0, gates=gates)})
        assert (SendVerdict in [type(action) for _, action in pair.do(Attached(0.5))]) is not gates
        pair.do(Started())
        pair.answer(H, BAD, T0 + 1)
        assert pair.passed is not gates
        assert pair.task.of[H].rule.healthy is False


def test_overdue_checks_of_one_task_keep_away_from_each_other() -> None:
    pair = Pair()
    pair.do(Attached(0.75))
    assert (pair.task.of[H].spread, pair.task.of[C].spread) == (0.75, 0.25)


def test_a_snooze_concerns_one_check() -> None:
    pair = Pair()
    pair.do(Attached(0.5))
    pair.do(Started())
    pair.do(Snooze(T0 + 60), T0, H)
    assert pair.task.of[H].flight is None
    assert pair.task.of[C].flight is not None


def test_an_event_of_a_check_that_the_task_has_not_changes_nothing() -> None:
    pair = Pair({H: "aurora-time"})
    before = pair.task
    assert pair.do(Result(1, UP), kind=C) == []
    assert pair.task is before


def test_what_a_driver_remembers_goes_to_each_check_and_is_told_with_a_newer_version() -> None:
    pair = Pair()
    memory = Memory(True, True, False, 0, 4, value=Value(exit_code=1), changes=3)
    assert named(pair.do(Heard(7_000_000, memory, "passed", "exit code 1"))) == [(H, Save), (C, Save)]
    assert pair.task.version > 7_000_000
    assert pair.task.of[H].rule.passed
    assert pair.task.of[H].message == "passed"
    assert (pair.task.of[C].rule.value, pair.task.of[C].message) == (Value(exit_code=1), "exit code 1")
    version = pair.task.version
    assert named(pair.do(Attached(0.5))) == [(H, SendVerdict)]
    # Hearing of it again is no news.
    assert pair.do(Heard(version, memory, "passed", "exit code 1")) == []
    assert pair.task.version == version


def test_a_gate_that_was_open_from_the_beginning_is_no_memory_of_a_success() -> None:
    ungated = {H: Plan(Limits(60, 10, 2, 1), 1.0, gates=False)}
    pair = Pair({H: "mesos"}, ungated)
    pair.do(Heard(7_000_000, Memory(True, None, False, 0, 0), ""))
    assert not pair.task.of[H].rule.passed
    assert pair.passed


def test_a_death_that_is_remembered_concerns_the_health_check_alone() -> None:
    pair = Pair()
    dead = Memory(True, False, True, 1, 0)
    pair.do(Heard(7_000_000, dead, "failed"))
    assert pair.task.of[H].phase is Phase.STOPPED
    assert pair.task.of[C].phase is Phase.IDLE
    version = pair.task.version
    pair.do(Heard(version, dead, "failed"))
    assert pair.task.version == version
