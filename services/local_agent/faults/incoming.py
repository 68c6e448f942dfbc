"""Calls and connections that faults strike, and what waits behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.faults import refusals
from services.local_agent.faults.waiting import Waiting

if TYPE_CHECKING:
    from services.local_agent.faults.rules import Rule
    from services.local_agent.wire.http import Request


@dataclass(frozen=True)
class _Call:
    request: Request
    rule: Rule | None


class Calls(Waiting[_Call]):
    """Calls of one connection that a fault struck, and those behind them. While some wait, nothing more is read."""

    def take(self, request: Request, rule: Rule | None) -> None:
        """The next request of the connection."""
        self.push(_Call(request, rule), rule)
        if self.busy:
            self.connection.pause_reading("fault")

    def lost(self) -> None:
        """Nothing is dropped: the agent has read these calls, and will follow them though nobody waits for answers."""

    def perform(self, item: _Call) -> bool:
        """Does to a call what its fault says, now that its turn has come."""
        request, rule = item.request, item.rule
        effect = rule.fault.WhichOneof("effect") if rule is not None else ""
        match effect:
            case "refuse" if rule is not None:
                refuse = rule.fault.refuse
                self.connection.respond(refuse.status, refuse.body or refusals.text(refuse.status, request.method))
                if not request.keep_alive:
                    self.connection.cut()
            case "lose":
                self.connection.hand_in_unanswered(request)
                self._cut(reset=False)
            case "duplicate":
                self.connection.hand_in(request)
                self.connection.hand_in_unanswered(request)
            case "cut" if rule is not None:
                self._cut(reset=rule.fault.cut.reset)
            case _:
                self.connection.hand_in(request)
        if not len(self.line):
            self.connection.resume_reading("fault")
        return True

    def _cut(self, *, reset: bool) -> None:
        self.line.clear()
        self.connection.cut(reset=reset)


class Accepted(Waiting[str]):
    """A connection from which nothing is read yet."""

    def accept(self, rule: Rule) -> None:
        """Reading begins when the fault lets it."""
        self.connection.pause_reading("fault")
        self.push("reading", rule)

    def perform(self, item: str) -> bool:
        """Begins to read."""
        del item
        self.connection.resume_reading("fault")
        return True
