"""Refused calls and ignored updates: the last ones of each executor, and a warning of each kind now and then."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from services.local_agent.core.remarks import IgnoredUpdate, RefusedCall, Remark

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_LOG = logging.getLogger(__name__)
# Of each kind and executor.
MAX_KEPT = 10
# Executors, the newest ones; texts that were said lately.
MAX_CONTAINERS = 500
MAX_SAID = 1000
# The same is said again after so many seconds, and no more than so many lines in that time.
PAUSE_SECS = 60.0
MAX_LINES = 100
# Of an answer that repeats what the caller has sent; characters.
MAX_TEXT = 500

R = TypeVar("R", bound=Remark)


class RemarkBook:
    """Remarks in; belongs to one event loop. Moments are CLOCK_MONOTONIC, seconds."""

    def __init__(self) -> None:
        self._refusals: _Kept[RefusedCall] = _Kept()
        self._ignored: _Kept[IgnoredUpdate] = _Kept()
        self._sparing = Sparing()

    def take(self, remarks: Iterable[Remark], at: float) -> None:
        """Keeps them and logs what was not said lately."""
        for remark in remarks:
            if isinstance(remark, RefusedCall):
                self._refusals.add(remark, at)
                self._say(remark, at)
            elif isinstance(remark, IgnoredUpdate):
                self._ignored.add(remark, at)
                self._say(remark, at)
            else:
                raise TypeError(f"no rule for {remark}")

    def refusals(self, container_id: str) -> list[tuple[float, RefusedCall]]:
        """The last ones of an executor, oldest first; of nobody that is known: with an empty id."""
        return self._refusals.of(container_id)

    def ignored(self, container_id: str) -> list[tuple[float, IgnoredUpdate]]:
        """The last ones of an executor, oldest first."""
        return self._ignored.of(container_id)

    def _say(self, remark: RefusedCall | IgnoredUpdate, at: float) -> None:
        left_out = self._sparing.left_out(remark, at)
        if left_out is None:
            return
        fields: dict[str, object] = {"executor": remark.executor_id, "framework": remark.framework_id}
        if isinstance(remark, RefusedCall):
            level = logging.INFO if remark.passing else logging.WARNING
            message = "call refused"
            fields |= {"call": cut(remark.call), "status": remark.status, "body": cut(remark.body)}
        else:
            level, message = logging.WARNING, "update ignored"
            fields |= {"task": cut(remark.task_id), "state": remark.state, "why": remark.reason}
        if left_out:
            fields["left_out"] = left_out
        _LOG.log(level, message, extra={"fields": fields})


class _Kept(Generic[R]):
    """The last remarks of one kind, by container."""

    def __init__(self) -> None:
        self._of: dict[str, deque[tuple[float, R]]] = {}

    def add(self, remark: R, at: float) -> None:
        kept = self._of.pop(remark.container_id, None) or deque(maxlen=MAX_KEPT)
        kept.append((at, remark))
        # Youngest last.
        self._of[remark.container_id] = kept
        if len(self._of) > MAX_CONTAINERS:
            del self._of[next(iter(self._of))]

    def of(self, container_id: str) -> list[tuple[float, R]]:
        return list(self._of.get(container_id, ()))


class Sparing:
    """Lets each text through once in `PAUSE_SECS`, and not more than `MAX_LINES` of all texts in that time."""

    def __init__(self) -> None:
        # When it was said last, and how often it was held back since.
        self._said: dict[Hashable, tuple[float, int]] = {}
        self._lines: deque[float] = deque()

    def left_out(self, text: Hashable, at: float) -> int | None:
        """None: not to be said now. Else how often it was held back since it was said last."""
        said, held = self._said.pop(text, (None, 0))
        while self._lines and at - self._lines[0] >= PAUSE_SECS:
            self._lines.popleft()
        lately = said is not None and at - said < PAUSE_SECS
        if lately or len(self._lines) >= MAX_LINES:
            self._remember(text, said if said is not None else at - PAUSE_SECS, held + 1)
            return None
        self._lines.append(at)
        self._remember(text, at, 0)
        return held

    def _remember(self, text: Hashable, said: float, held: int) -> None:
        self._said[text] = (said, held)
        if len(self._said) > MAX_SAID:
            del self._said[next(iter(self._said))]


def cut(text: str) -> str:
    """Printable, and not longer than `MAX_TEXT`."""
    whole = text.encode(errors="replace").decode()
    return whole if len(whole) <= MAX_TEXT else whole[:MAX_TEXT] + "..."
