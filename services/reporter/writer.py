"""Writes statuses by the table of `mapping`: the only place where a reason is set, and where texts become messages."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.reporter.mapping import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.reporter.mapping import Situation, Wording

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024
"""Mesos keeps messages in memory and shows them everywhere (Mesos: message conventions)."""

ALLOWED_REASONS = frozenset(
    {
        mesos_pb2.TaskStatus.REASON_TASK_INVALID,
        mesos_pb2.TaskStatus.REASON_TASK_UNAUTHORIZED,
        mesos_pb2.TaskStatus.REASON_TASK_CHECK_STATUS_UPDATED,
        mesos_pb2.TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED,
        mesos_pb2.TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED,
    }
)
"""The reasons that belong to executors; all others are the agent's or the master's (Mesos: task state reasons)."""


def one_line(text: str) -> str:
    """Text as Mesos may carry it: valid UTF-8, one line, at most `MAX_MESSAGE_BYTES` bytes."""
    if not text.isprintable():
        # Mesos passes broken text on, and strict schedulers stumble over it again with each retry.
        text = " ".join("".join(c if c.isprintable() else _stand_in(c) for c in text).split())
    encoded = text.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return text
    return encoded[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."


def _stand_in(c: str) -> str:
    return "\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else " "


class StatusWriter:
    """Writes statuses by the table. Counts in `refused` what the whitelist of reasons held back."""

    def __init__(self, table: Mapping[Situation, Wording] = TABLE) -> None:
        self._table = table
        self.refused: Counter[int] = Counter()

    def write(
        self,
        situation: Situation,
        *,
        task_id: str,
        detail: str,
        health_checked: bool,
        timestamp: float,
        healthy: bool | None = None,
        check_status: mesos_pb2.CheckStatusInfo | None = None,
    ) -> mesos_pb2.TaskStatus:
        """A status for `situation`.

        Args:
            situation: The row of the table.
            task_id: The task's Mesos id.
            detail: What the runner or health said, for people; may be empty.
            health_checked: The task defines a health check; `healthy` is left out otherwise.
            timestamp: Wall clock, seconds: when it was decided.
            healthy: As health sees it now, for rows that are not about health.
            check_status: The newest result of the task's check.
        """
        wording = self._table[situation]
        status = mesos_pb2.TaskStatus(state=wording.state)
        status.task_id.value = task_id
        if math.isfinite(timestamp):
            status.timestamp = timestamp
        message = message_of(wording, detail)
        if message:
            status.message = message
        flag = healthy if wording.keeps_healthy else wording.healthy
        if health_checked and flag is not None:
            status.healthy = flag
        if check_status is not None:
            status.check_status.CopyFrom(check_status)
        if wording.reason is not None:
            if wording.reason in ALLOWED_REASONS:
                status.reason = wording.reason
            else:
                # Fail closed: no reason is always allowed, a wrong one makes schedulers act on what did not happen.
                self.refused[wording.reason] += 1
                logger.error("task %s: reason %d is not an executor's: left out", task_id, wording.reason)
        return status


def message_of(wording: Wording, detail: str) -> str:
    """The message of a row with this detail; may be empty."""
    detail = one_line(detail).strip() if wording.detailed else ""
    if not detail:
        return wording.text
    speaks_for_itself = detail.startswith(wording.prefix) or (wording.apart and detail.startswith(wording.apart))
    return one_line(detail if speaks_for_itself else wording.prefix + detail)
