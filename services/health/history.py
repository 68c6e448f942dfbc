"""The newest results of a check, for people."""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.health.interpret import Meaning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOG = logging.getLogger(__name__)
# Results that `GetCheck` shows.
LENGTH = 50


@dataclass(frozen=True, slots=True)
class Recorded:
    """One result. `at`: wall clock, seconds since 1970; latency in seconds."""

    at: float
    meaning: Meaning
    detail: str
    latency: float

    def to_json(self) -> list[object]:
        """For the journal."""
        return [self.at, self.meaning.value, self.detail, self.latency]


class History:
    """At most `LENGTH` results, oldest first.

    Those of an earlier process are decoded when somebody looks: few ever do, and a service with a thousand tasks has to
    be back in a moment.
    """

    def __init__(self, payloads: Sequence[bytes] = ()) -> None:
        """`payloads`: records of the journal, oldest first: with `result`, with `results`, or with neither."""
        self._payloads = payloads
        self._recorded: deque[Recorded] = deque(maxlen=LENGTH)

    def append(self, recorded: Recorded) -> None:
        """Adds the newest."""
        self._recorded.append(recorded)

    def newest(self) -> Recorded | None:
        """The last one; None: there is none yet."""
        if not self._recorded and self._payloads:
            try:
                for payload in reversed(self._payloads):
                    for recorded in reversed(list(_decode(payload))):
                        return recorded
            except ValueError:
                # Says so, and forgets them.
                iter(self)
        return self._recorded[-1] if self._recorded else None

    def __iter__(self) -> Iterator[Recorded]:
        """Oldest first."""
        if self._payloads:
            payloads, self._payloads = self._payloads, ()
            try:
                earlier = [recorded for payload in payloads for recorded in _decode(payload)]
            except ValueError as error:
                _LOG.error("results of an earlier process cannot be read", extra={"fields": {"error": str(error)}})
                earlier = []
            self._recorded = deque([*earlier, *self._recorded], maxlen=LENGTH)
        return iter(self._recorded)


def _decode(payload: bytes) -> Iterator[Recorded]:
    record = json.loads(payload)
    newest = record.get("result")
    for result in record.get("results", [] if newest is None else [newest]):
        match result:
            case [int() | float() as at, str(meaning), str(detail), int() | float() as latency]:
                yield Recorded(at, Meaning(meaning), detail, latency)
            case _:
                raise ValueError(f"not a check's result: {result!r}")
