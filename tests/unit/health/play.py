"""One check, played by hand: events and the time go in, actions are kept."""

from __future__ import annotations

from services.common.keys import Executor, TaskKey
from services.common.task.checks import Expected, HttpTarget, Source
from services.health import checks
from services.health.interpret import Meaning, Reading
from services.health.model import Action, Attached, Check, Event, Kind, Plan, Result, SendProbe, Started, Tick
from services.health.records import Header, decode, decode_header, encode_header, encode_state
from services.health.rules import Limits
from services.health.spec import Spec

T0 = 1000.0
OK = Reading(Meaning.SUCCESS, "passed")
BAD = Reading(Meaning.FAILURE, "failed")
GONE = Reading(Meaning.TRANSIENT, "could not be made")
SNOOZED = Reading(Meaning.SNOOZED, "the snooze file is there")
TASK = TaskKey(Executor("f", "e", "i"), "t", 1)


def spec_of(kind: Kind, rule: str, limits: Limits, timeout: float = 1.0, *, gates: bool = True) -> Spec:
    target = HttpTarget(31001, "/health")
    return Spec(kind, Source.AURORA, target, Expected((), "ok"), timeout, limits, rule, gates)


def journalled(check: Check, rule: str, kind: Kind = Kind.HEALTH) -> Check:
    """What another process of the service reads of it."""
    header = Header(TASK, b"\1" * 32, "boot", (spec_of(kind, rule, Limits(15, 10, 0, 1)),))
    task, _ = decode(decode_header(encode_header(header)), [encode_state(kind, 1, check)])
    return task.of[kind]


class Play:
    """Drives one check and keeps what it asked for."""

    def __init__(
        self,
        limits: Limits | None = None,
        timeout: float = 1.0,
        now: float = T0,
        rule: str = "aurora-time",
        *,
        gates: bool = True,
    ) -> None:
        self.plan = Plan(limits or Limits(15, 10, 0, 1), timeout, gates)
        self.rule = rule
        self.check = checks.new(rule)
        self.now = now
        self.actions: list[Action] = []

    def do(self, event: Event, now: float | None = None) -> tuple[Action, ...]:
        self.now = self.now if now is None else now
        self.check, actions = checks.step(self.check, self.plan, event, self.now)
        self.actions += actions
        return actions

    def start(self) -> Play:
        self.do(Attached(0.5))
        self.do(Started())
        return self

    def answer(self, reading: Reading, now: float | None = None, latency: float = 0.0) -> tuple[Action, ...]:
        assert self.check.flight is not None
        return self.do(Result(self.check.flight.id, reading, latency), now)

    def wake_at(self) -> float | None:
        return checks.wake_at(self.check)

    def until_probe(self) -> float:
        """Lets time pass until the next probe is sent."""
        assert self.check.flight is None
        wake = self.wake_at()
        assert wake is not None
        (probe,) = self.do(Tick(), wake)
        assert isinstance(probe, SendProbe)
        return wake

    def restart(self, now: float | None = None) -> Play:
        """Another service process reads what this one has journalled."""
        self.now = self.now if now is None else now
        self.check = checks.restored(journalled(self.check, self.rule), self.now)
        return self


def kinds(actions: tuple[Action, ...]) -> list[type[Action]]:
    return [type(action) for action in actions]
