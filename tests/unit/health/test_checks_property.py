"""Whatever comes in whatever order: invariants of the check machine, and restarts at every record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.health import checks
from services.health.interpret import Meaning, Reading
from services.health.model import (
    Attached,
    Detached,
    Ending,
    Event,
    Phase,
    Plan,
    Result,
    Save,
    SendProbe,
    SendVerdict,
    Started,
    Tick,
)
from services.health.records import decode_state, encode_state
from services.health.rules import Limits

READINGS = [Reading(meaning, meaning.value) for meaning in Meaning]
PLANS = st.builds(
    Plan,
    st.builds(
        Limits,
        st.sampled_from([0.0, 5.0, 15.0, 60.0]),
        st.sampled_from([0.5, 10.0]),
        st.integers(0, 3),
        st.integers(1, 3),
    ),
    st.sampled_from([0.0, 1.0, 5.0]),
)
# "restart": another process of the service; "answer": of the probe under way.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "attach",
                "detach",
                "start",
                "tick",
                "tick",
                "tick",
                "answer",
                "answer",
                "answer",
                "odd answer",
                "restart",
                "end",
            ]
        ),
        st.sampled_from(READINGS),
        st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0]),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(PLANS, STEPS)
def test_invariants(plan: Plan, steps: list[tuple[str, Reading, float]]) -> None:
    check, now = checks.new("aurora-time"), 1000.0
    last_probe, last_version, attached, under_way = 0, 0, False, False
    saved = check
    for what, reading, delay in steps:
        now += delay
        if what == "tick":
            now = max(now, checks.wake_at(check, plan) or now)
        before = check
        actions: tuple[object, ...] = ()
        if what == "restart":
            check = decode_state("aurora-time", encode_state(saved))
            attached = under_way = False
            # The old verdict stands, whenever the process died: nothing was told that is not journalled.
            assert check.rule == before.rule
            assert check.version == before.version
        else:
            event: Event
            match what:
                case "attach":
                    event = Attached(0.5)
                    if attached:
                        continue
                    attached = True
                case "detach":
                    event, attached = Detached(), False
                case "start":
                    event = Started()
                case "end":
                    event = Ending()
                case "answer" if check.flight:
                    event = Result(check.flight.id, reading)
                case "answer" | "odd answer":
                    event = Result(7, reading)
                case _:
                    event = Tick()
            check, actions = checks.step(check, plan, event, now)
        for action in actions:
            match action:
                case Save():
                    saved = check
                case SendProbe(probe_id):
                    assert attached
                    assert not before.flight or before.flight.id != probe_id
                    assert probe_id > last_probe
                    last_probe = probe_id
                case SendVerdict():
                    assert saved.rule == check.rule
                    assert check.version >= last_version
                    assert check.version > 0
                    last_version = check.version
        under_way = check.flight is not None
        assert not (under_way and check.due is not None)
        assert check.elapsed >= before.elapsed or what == "restart"
        # Latches.
        assert check.rule.passed or not before.rule.passed
        assert check.rule.dead or not before.rule.dead
        # Only a counted result of the probe under way changes an opinion.
        if check.rule != before.rule:
            assert what == "answer"
            assert reading.meaning is not Meaning.TRANSIENT
        # Whoever is probed is waited for or has a time for the next probe.
        if attached and check.phase is Phase.PROBING and plan.timeout:
            assert checks.wake_at(check, plan) is not None


class Machine:
    """One check with a clock and the last record of its journal."""

    def __init__(self, plan: Plan, jitter: float) -> None:
        self.plan, self.jitter, self.now = plan, jitter, 1000.0
        self.check = checks.new("aurora-time")
        self.record = encode_state(self.check)

    def do(self, event: Event, after: float = 0.0) -> None:
        self.now += after
        self.check, actions = checks.step(self.check, self.plan, event, self.now)
        if Save() in actions:
            self.record = encode_state(self.check)

    def answer(self, reading: Reading, after: float) -> None:
        assert self.check.flight is not None
        self.do(Result(self.check.flight.id, reading), after)

    def until_probe(self, late: float) -> None:
        wake = checks.wake_at(self.check, self.plan)
        assert wake is not None
        self.do(Tick(), max(wake - self.now, 0) + late)
        assert self.check.flight is not None

    def away(self, after: float) -> None:
        self.do(Detached(), after)
        self.do(Attached(self.jitter), 500)

    def restart(self) -> None:
        self.check = decode_state("aurora-time", self.record)
        self.do(Attached(self.jitter), 300)


ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "transient", "lost link", "restart", "lost link before", "late"]),
        st.sampled_from([0.0, 0.25, 4.0]),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(ATTEMPTS, st.floats(0, 1))
def test_the_initial_interval_runs_only_while_probes_can_be_made(
    attempts: list[tuple[str, float]], jitter: float
) -> None:
    """By addition: each counted check adds its own time and, if nothing disturbed it, the whole interval before it."""
    machine = Machine(Plan(Limits(1e9, 10, 0, 10**6), 60), jitter)
    machine.do(Attached(jitter))
    machine.do(Started())
    used, recorded, wait = 0.0, 0.0, 0.0
    for what, took in attempts:
        if machine.check.flight is None:
            if what == "lost link before":
                machine.away(after=0.25)
            if machine.check.flight is None:
                machine.until_probe(late=77.0 if what == "late" else 0.0)
        used += wait
        wait = 0.0
        match what:
            case "transient":
                machine.answer(READINGS[2], took)
            case "lost link":
                machine.away(after=took)
            case "restart":
                machine.now += took
                machine.restart()
                used = recorded
            case _:
                machine.answer(READINGS[what == "failure"], took)
                used += took
                recorded, wait = used, 10.0
        assert abs(machine.check.elapsed - used) < 1e-6
