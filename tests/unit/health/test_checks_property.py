"""Whatever comes in whatever order: invariants of the check machine, and restarts at every record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.health import checks
from services.health.interpret import Meaning, Reading
from services.health.model import (
    Attached,
    Check,
    Detached,
    Ending,
    Event,
    Phase,
    Plan,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Snooze,
    Started,
    Tick,
)
from services.health.rules import Limits
from tests.effort import examples
from tests.unit.health.play import journalled

READINGS = [Reading(meaning, meaning.value) for meaning in Meaning]
BY_MEANING = {reading.meaning: reading for reading in READINGS}
RULES = st.sampled_from(["aurora-time", "aurora-attempts", "mesos", "check"])
PLANS = st.builds(
    Plan,
    st.builds(
        Limits,
        st.sampled_from([0.0, 5.0, 15.0, 60.0]),
        st.sampled_from([0.5, 10.0]),
        st.integers(0, 3),
        st.integers(1, 3),
        st.sampled_from([0.0, 0.0, 15.0]),
    ),
    st.sampled_from([0.0, 1.0, 5.0]),
    st.booleans(),
)
# "restart": another process of the service; "answer": of the probe under way.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["attach", "detach", "start", "odd answer", "restart", "end", "snooze", "wake", *4 * ["tick", "answer"]]
        ),
        st.sampled_from(READINGS),
        st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0]),
    ),
    max_size=60,
)


class Walk:
    """A check in a random walk, with what has to stay true whatever comes."""

    def __init__(self, rule: str, plan: Plan) -> None:
        self.rule, self.plan, self.now = rule, plan, 1000.0
        self.check = self.saved = checks.new(rule)
        self.last_probe = 0
        self.attached = False

    def event(self, what: str, reading: Reading) -> Event:
        match what:
            case "attach":
                return Attached(0.5)
            case "detach":
                return Detached()
            case "start":
                return Started()
            case "end":
                return Ending()
            case "snooze":
                return Snooze(self.now + 30)
            case "wake":
                return Snooze(None)
            case "answer" if self.check.flight:
                return Result(self.check.flight.id, reading)
            case "answer" | "odd answer":
                return Result(7, reading)
        return Tick()

    def restart(self) -> None:
        before = self.check
        self.check = checks.restored(journalled(self.saved, self.rule), self.now)
        self.attached = False
        # The old verdict stands, whenever the process died: nothing was told that is not journalled.
        assert (self.check.rule, self.check.message) == (before.rule, before.message)
        assert (self.check.failures, self.check.transients) == (before.failures, before.transients)

    def go(self, what: str, reading: Reading) -> None:
        before, event = self.check, self.event(what, reading)
        if what in ("attach", "detach"):
            self.attached = what == "attach"
        self.check, actions = checks.step(before, self.plan, event, self.now)
        told = False
        for action in actions:
            match action:
                case Save():
                    assert not told
                    self.saved = self.check
                case SendProbe(probe_id):
                    assert self.attached
                    assert before.flight is None
                    assert probe_id > self.last_probe
                    assert before.snoozed_until is None or before.snoozed_until <= self.now or what == "wake"
                    self.last_probe = probe_id
                case SendVerdict():
                    told = True
                    assert self.saved.rule == self.check.rule
        assert told == (self.check.rule.told != before.rule.told)
        self.see(before, what, reading)

    def see(self, before: Check, what: str, reading: Reading) -> None:
        check = self.check
        assert check.flight is None or check.due is None
        assert check.elapsed >= before.elapsed
        # Latches.
        assert check.rule.passed or not before.rule.passed
        assert check.rule.dead or not before.rule.dead
        # Only a counted result of the probe under way changes an opinion, or attempts that are spent.
        if check.rule != before.rule and not (self.rule == "aurora-attempts" and check.rule.dead):
            assert what == "answer"
            assert reading.counts
        # Whoever is probed is waited for or has a time for the next probe; nobody else is.
        wake = checks.wake_at(check)
        if self.attached and check.phase is Phase.PROBING:
            assert wake is not None or (check.flight is not None and not self.plan.timeout)
        else:
            assert wake is None
            assert check.flight is None
        if check.gap is not None:
            assert check.phase is Phase.PROBING
            assert before.gap is None or check.gap.since == before.gap.since
            assert check.gap.since <= self.now


@settings(max_examples=examples(500), deadline=None)
@given(RULES, PLANS, STEPS)
def test_invariants(rule: str, plan: Plan, steps: list[tuple[str, Reading, float]]) -> None:
    walk = Walk(rule, plan)
    for what, reading, delay in steps:
        walk.now += delay
        if what == "tick":
            walk.now = max(walk.now, checks.wake_at(walk.check) or walk.now)
        if what == "restart":
            walk.restart()
        elif what != "attach" or not walk.attached:
            walk.go(what, reading)


class Machine:
    """One check with a clock and the last record of its journal."""

    def __init__(self, plan: Plan, spread: float) -> None:
        self.plan, self.spread, self.now = plan, spread, 1000.0
        self.check = self.saved = checks.new("aurora-time")

    def do(self, event: Event, after: float = 0.0) -> None:
        self.now += after
        self.check, actions = checks.step(self.check, self.plan, event, self.now)
        if any(isinstance(action, Save) for action in actions):
            self.saved = self.check

    def answer(self, meaning: Meaning, after: float) -> None:
        assert self.check.flight is not None
        self.do(Result(self.check.flight.id, BY_MEANING[meaning]), after)

    def until_probe(self, late: float) -> None:
        wake = checks.wake_at(self.check)
        assert wake is not None
        self.do(Tick(), max(wake - self.now, 0) + late)
        if self.check.flight is None:
            # So late that it is put off, once.
            assert late
            wake = checks.wake_at(self.check)
            assert wake is not None
            self.do(Tick(), wake - self.now)
        assert self.check.flight is not None

    def away(self, after: float) -> None:
        self.do(Detached(), after)
        self.do(Attached(self.spread), 500)

    def restart(self) -> None:
        self.check = checks.restored(journalled(self.saved, "aurora-time"), self.now)
        self.do(Attached(self.spread), 300)


ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "success",
                "failure",
                "transient",
                "file",
                "lost link",
                "restart",
                "lost link before",
                "late",
                "snoozed before",
            ]
        ),
        st.sampled_from([0.0, 0.25, 4.0]),
    ),
    max_size=30,
)


@settings(max_examples=examples(300), deadline=None)
@given(ATTEMPTS, st.floats(0, 1))
def test_the_initial_interval_runs_in_probes_that_count_and_in_undisturbed_waits(
    attempts: list[tuple[str, float]], spread: float
) -> None:
    """By addition: each counted check adds its own time and, if nothing disturbed it, the whole interval before it."""
    machine = Machine(Plan(Limits(1e9, 10, 0, 10**6), 60), spread)
    machine.do(Attached(spread))
    machine.do(Started())
    used, wait = 0.0, 0.0
    for what, took in attempts:
        if machine.check.flight is None:
            if what == "lost link before":
                machine.away(after=0.25)
            if what == "snoozed before":
                machine.do(Snooze(machine.now + 60), after=0.25)
                used += min(wait, 0.25)
                wait = 0.0
            if machine.check.flight is None:
                machine.until_probe(late=77.0 if what == "late" else 0.0)
        used += wait
        wait = 0.0
        match what:
            case "transient" | "file":
                machine.answer(Meaning.TRANSIENT if what == "transient" else Meaning.SNOOZED, took)
            case "lost link":
                machine.away(after=took)
            case "restart":
                machine.now += took
                machine.restart()
            case _:
                machine.answer(Meaning.FAILURE if what == "failure" else Meaning.SUCCESS, took)
                used += took
                wait = 10.0
        assert abs(machine.check.elapsed - used) < 1e-6
