"""What a verdict rule is: counted results in, an opinion about the task out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.health.interpret import Reading, Value


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of a check that a rule needs. Times in seconds."""

    initial_interval: float
    """Mesos: the grace period."""
    interval: float
    max_failures: int
    """One more than these in a row are too many."""
    min_successes: int
    delay: float = 0.0
    """From the task's start to the first probe."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What somebody else remembers of a verdict, for a service that lost its own books."""

    passed: bool
    healthy: bool | None
    dead: bool
    failures: int
    successes: int
    reports: int = 0
    value: Value | None = None
    """What a check that is not interpreted has found last."""
    changes: int = 0


class RuleState(Protocol):
    """The opinion of one rule about one task. Immutable."""

    @property
    def passed(self) -> bool:
        """It has been healthy once: the gate, if there is one, is open. Never closes again."""

    @property
    def healthy(self) -> bool | None:
        """None: no opinion yet."""

    @property
    def dead(self) -> bool:
        """The task has to be ended. Final."""

    @property
    def failures(self) -> int:
        """Failures in a row, up to now."""

    @property
    def successes(self) -> int:
        """Successes in a row, up to now."""

    @property
    def reports(self) -> int:
        """Grows with each result that the framework has to hear of even if `healthy` stays as it is."""

    @property
    def value(self) -> Value | None:
        """What a check that is not interpreted has found last; None under all other rules, and if it found nothing."""

    @property
    def changes(self) -> int:
        """How often `value` has changed, in value or in presence."""

    @property
    def told(self) -> tuple[object, ...]:
        """What others have to hear of: when it differs from before, there is a new verdict."""

    def before(self, limits: Limits) -> Self:
        """The opinion when the next probe is due: a rule that counts attempts may have had enough of them."""

    def count(self, limits: Limits, reading: Reading, elapsed: float) -> Self:
        """The opinion after one more counted result.

        Args:
            limits: The numbers of this check.
            reading: What was found; always one that counts.
            elapsed: Seconds of the initial interval (of the grace period) that had been used up when the check was
                complete. Counts from the task's start, `limits.delay` included.
        """

    def explain(self, limits: Limits, before: Self, detail: str) -> str:
        """One line for people: what the step that led from `before` to here means.

        Args:
            limits: The numbers of this check.
            before: The opinion before.
            detail: Of the reading; empty after `before()`.
        """

    def adopt(self, memory: Memory) -> Self:
        """Takes over what was remembered elsewhere. What has passed stays passed, what is dead stays dead."""

    def to_json(self) -> dict[str, object]:
        """For the journal; `Rule.restore` reads it."""


class Interpreted:
    """What the states of rules that lead to a verdict have in common."""

    __slots__ = ()

    def before(self, limits: Limits) -> Self:  # noqa: ARG002  # the interface is that of all rules
        """See `RuleState`. Most rules do not count attempts."""
        return self

    @property
    def value(self) -> Value | None:
        """See `RuleState`."""
        return None

    @property
    def changes(self) -> int:
        """See `RuleState`."""
        return 0


class Rule(Protocol):
    """A way to come to a verdict."""

    @property
    def name(self) -> str:
        """As shown by the API."""

    def start(self) -> RuleState:
        """The opinion before the first result."""

    def restore(self, record: Mapping[str, object]) -> RuleState:
        """The opinion that `RuleState.to_json` wrote, also by an earlier version of the rule.

        Raises:
            ValueError: The record does not hold one.
        """
