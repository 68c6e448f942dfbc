"""What one input comes to: an answer for its sender, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from services.local_agent.core.actions import Action
    from services.local_agent.core.records import Record
    from services.local_agent.core.remarks import Remark
    from services.local_agent.core.step import Step

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What an input caused. `answer` is for its sender."""

    answer: T
    records: tuple[Record, ...]
    actions: tuple[Action, ...]
    remarks: tuple[Remark, ...]


def outcome_of(step: Step, answer: T) -> Outcome[T]:
    """All that has come together in a step."""
    return Outcome(answer, tuple(step.records), tuple(step.actions), tuple(step.remarks))
