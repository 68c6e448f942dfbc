"""What a run looks like: live, plain lines, or JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from services.cli.events import Event


@dataclass(frozen=True, slots=True)
class Launched:
    """A task that the agent has taken; `sandbox` is a short path to show to people."""

    task_id: str
    name: str
    sandbox: str
    ports: dict[str, int]
    stack_logs: str


class View(Protocol):
    """Shows a run as it happens. Methods are called in order, from one thread."""

    def launched(self, task: Launched) -> None:
        """The agent has taken the task."""

    def status(self, event: Event) -> None:
        """The scheduler has received a status update."""

    def process(self, event: Event) -> None:
        """A process has changed its state."""

    def note(self, text: str) -> None:
        """Something for people that is not the task's."""

    def end(self, event: Event) -> None:
        """The task is over; everything of it has been shown."""

    def close(self) -> None:
        """Nothing follows. Called in any case, once."""


def choose(output: str) -> View:
    """The view for `--output`."""
    if output == "json":
        from services.cli.views.jsonlines import JsonLines

        return JsonLines(sys.stdout)
    if output == "live" or (output == "auto" and sys.stdout.isatty()):
        from services.cli.views.live import LiveView

        return LiveView()
    from services.cli.views.plain import Plain

    return Plain(sys.stdout)
