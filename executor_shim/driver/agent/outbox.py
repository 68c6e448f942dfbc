"""When to send which update (Mesos: retransmission rules). Pure: the book holds the updates, time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from executor_shim.driver.state.entries import Update

# Without an acknowledgement after this time the same bytes are sent again: duplicates are harmless.
ACK_TIMEOUT = 10.0
# Pause after 503 or a broken connection: short, as the agent's window for the first is 2 s.
RETRY_PAUSE = 0.1


class Due(NamedTuple):
    """What to do next: send `update` now, or look again at `at` (infinity: when something changes)."""

    update: Update | None
    at: float


class SendPlan:
    """Which updates of the outbox the agent has been given."""

    def __init__(self) -> None:
        self._sent_at: dict[bytes, float] = {}
        self._not_before = 0.0

    def next(self, outbox: Iterable[Update], now: float) -> Due:
        """The oldest update that has to be sent, one at a time: updates of one task must arrive in order."""
        if now < self._not_before:
            return Due(None, self._not_before)
        at = float("inf")
        for update in outbox:
            sent_at = self._sent_at.get(update.uuid)
            if sent_at is None or now - sent_at >= ACK_TIMEOUT:
                return Due(update, now)
            at = min(at, sent_at + ACK_TIMEOUT)
        return Due(None, at)

    def sending(self, uuid: bytes, now: float) -> None:
        """Noted before it is sent: the acknowledgement may come before the response."""
        self._sent_at[uuid] = now

    def failed(self, uuid: bytes, now: float) -> None:
        """503 or no answer: the same again after a pause."""
        self._sent_at.pop(uuid, None)
        self._not_before = now + RETRY_PAUSE

    def done(self, uuid: bytes) -> None:
        """Acknowledged, or dropped."""
        self._sent_at.pop(uuid, None)

    def keep(self, uuids: Container[bytes]) -> None:
        """What is not among these is no more to be sent: older updates go with the terminal one."""
        for uuid in [uuid for uuid in self._sent_at if uuid not in uuids]:
            del self._sent_at[uuid]

    def listed(self, uuids: Iterable[bytes], now: float) -> None:
        """A SUBSCRIBE has just carried these: the agent has them, and acknowledges them."""
        self._sent_at = dict.fromkeys(uuids, now)
        self._not_before = 0.0
