"""What a verdict rule is: counted results in, an opinion about the task out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of a health check that a rule needs. Intervals in seconds."""

    initial_interval: float
    interval: float
    max_failures: int
    min_successes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What somebody else remembers of a verdict, for a service that lost its own books."""

    passed: bool
    healthy: bool | None
    dead: bool
    failures: int
    successes: int


class RuleState(Protocol):
    """The opinion of one rule about one task. Immutable."""

    @property
    def passed(self) -> bool:
        """The gate is open. Never closes again."""

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

    def count(self, limits: Limits, *, success: bool, elapsed: float) -> Self:
        """The opinion after one more counted result.

        Args:
            limits: The numbers of this check.
            success: What the result was.
            elapsed: Seconds of the initial interval that had been used up when the check was complete.
        """

    def explain(self, limits: Limits, before: Self, detail: str) -> str:
        """One line for people: what the result that led from `before` to here means."""

    def adopt(self, memory: Memory) -> Self:
        """Takes over what was remembered elsewhere. What has passed stays passed, what is dead stays dead."""

    def to_json(self) -> dict[str, object]:
        """For the journal; `Rule.restore` reads it."""


class Rule(Protocol):
    """A way to come to a verdict."""

    @property
    def name(self) -> str:
        """As shown by the API."""

    def start(self) -> RuleState:
        """The opinion before the first result."""

    def restore(self, record: Mapping[str, object]) -> RuleState:
        """The opinion that `RuleState.to_json` wrote.

        Raises:
            ValueError: The record does not hold one.
        """
