"""What Aurora's two rules have in common."""

from __future__ import annotations

from abc import abstractmethod

from services.health.rules.base import Interpreted


class Aurora(Interpreted):
    """What is told of a task, and when."""

    __slots__ = ()

    passed: bool
    healthy: bool | None
    failures: int
    successes: int

    @property
    @abstractmethod
    def dead(self) -> bool:
        """See `RuleState`."""

    @property
    def reports(self) -> int:
        """Always 0: Aurora hears of a change of `healthy` only."""
        return 0

    @property
    def told(self) -> tuple[object, ...]:
        """See `RuleState`. The row of successes of a task that has passed grows with every probe: no news."""
        return self.passed, self.healthy, self.dead, self.failures, 0 if self.passed else self.successes


def failing(detail: str, failures: int, allowed: int) -> str:
    """`detail` with the row of failures that it is the end of."""
    row = "1 failure" if failures == 1 else f"{failures} failures"
    return f"{detail} ({row} in a row, {allowed} allowed)"
