"""Which call, event or connection is struck by which fault. No clock, no I/O.

Faults are asked in the order in which they were put into force; the first that strikes wins, and those behind it do not
hear of that match at all. So `refuse three times`, then `delay`, delays the fourth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.local_agent.faults.validation import CONNECTION, FaultRefused, check
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

Fault = faults_pb2.Fault


@dataclass(frozen=True)
class Traffic:
    """What may be struck. `target` is `call`, `event` or `connection`; type 0: a call that cannot be read."""

    target: str
    type: int = 0
    executor_id: str = ""
    task_ids: tuple[str, ...] = ()


@dataclass
class Rule:
    """A fault in force and its count."""

    fault: Fault
    chance: random.Random
    # What damage draws is a row of its own: how much that is depends on the event's length, which must not decide what
    # is struck next.
    damage: random.Random
    matches: int = 0
    strikes: int = 0

    @property
    def used_up(self) -> bool:
        """It strikes no more; what it holds back it still holds."""
        return bool(self.fault.times) and self.strikes >= self.fault.times

    def strikes_at(self, traffic: Traffic) -> bool:
        """Counts, and draws where chance decides."""
        if self.used_up or not _matches(self.fault, traffic):
            return False
        self.matches += 1
        if self.matches <= self.fault.skip:
            return False
        if 0 < self.fault.probability < 1 and self.chance.random() >= self.fault.probability:
            return False
        self.strikes += 1
        return True


@dataclass
class RuleBook:
    """The faults in force, in order. All chance comes from `seed` and the ids of the faults."""

    seed: int = 0
    rules: dict[str, Rule] = field(default_factory=dict)
    _made: int = 0

    def add(self, fault: Fault) -> str:
        """Puts a fault into force, last; returns its id.

        Raises:
            FaultRefused: It makes no sense, or its id is in use.
        """
        check(fault)
        if fault.id in self.rules:
            raise FaultRefused("id", f"{fault.id} is in use")
        own = Fault()
        own.CopyFrom(fault)
        own.id = fault.id or self._new_id()
        # A text as the seed is hashed: neighbouring seeds and ids give unlike rows.
        seed = f"{self.seed}/{own.id}"
        self.rules[own.id] = Rule(own, random.Random(seed), random.Random(f"{seed}/damage"))  # noqa: S311 - repeatable
        return own.id

    def _new_id(self) -> str:
        while True:
            self._made += 1
            new = f"fault-{self._made}"
            if new not in self.rules:
                return new

    def remove(self, fault_id: str = "") -> list[str]:
        """Takes one fault away, or all; returns the ids.

        Raises:
            KeyError: There is no such fault.
        """
        ids = [fault_id] if fault_id else list(self.rules)
        for known in ids:
            del self.rules[known]
        return ids

    def strike(self, traffic: Traffic) -> Rule | None:
        """The fault that strikes, if one does."""
        return next((rule for rule in self.rules.values() if rule.strikes_at(traffic)), None)

    @property
    def refuses_connections(self) -> bool:
        """A fault wants nobody to listen."""
        return any(
            rule.fault.WhichOneof("target") == CONNECTION and rule.fault.HasField("refuse")
            for rule in self.rules.values()
        )


def _matches(fault: Fault, traffic: Traffic) -> bool:
    target = fault.WhichOneof("target")
    if target != traffic.target:
        return False
    if target == CONNECTION:
        # Who is refused never comes here.
        return not fault.HasField("refuse")
    return (
        _includes(getattr(fault, target), traffic.type)
        and (not fault.executor_id or fault.executor_id == traffic.executor_id)
        and (not fault.task_id or fault.task_id in traffic.task_ids)
    )


def _includes(wanted: int, found: int) -> bool:
    # The same number means ANY for calls and events.
    return wanted in (faults_pb2.CALL_TYPE_ANY, found)


def add_all(book: RuleBook, faults: Iterable[Fault]) -> None:
    """Several at once.

    Raises:
        FaultRefused: One makes no sense, or has an id that another one has.
    """
    for fault in faults:
        book.add(fault)
