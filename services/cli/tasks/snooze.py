"""`trivet snooze`: a task's health is not probed for a while."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from services.cli.tasks.checkwords import as_object
from services.cli.tasks.texts import moment, seconds
from services.cli.views.texts import printable
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    import argparse

    from services.cli.tasks.connection import Health


async def snooze(options: argparse.Namespace, service: Health) -> int:
    """Snoozes a check, or wakes it.

    Raises:
        Refused: the task has no health check, or is over, or no answer.
    """
    request = health_pb2.SnoozeCheckRequest(
        task_id=options.task,
        duration_secs=0.0 if options.wake else options.span,
        executor_id=options.executor or "",
        framework_id=options.framework or "",
    )
    answer: health_pb2.SnoozeCheckResponse = await service.ask("SnoozeCheck", request)
    if options.json:
        print(json.dumps(as_object(answer.check)))
        return 0
    words = _woken(answer.check) if options.wake else _snoozed(answer.check, time.time())
    print(f"{printable(options.task)}: {words}")
    return 0


def _snoozed(check: health_pb2.Check, now: float) -> str:
    until = moment(now + check.snoozed_for_secs)[:19]
    stays = "" if check.verdict.passed else "; the task stays STARTING meanwhile"
    return f"not probed for {seconds(check.snoozed_for_secs)}, until {until}{stays} (--wake ends it)"


def _woken(check: health_pb2.Check) -> str:
    if check.phase == health_pb2.CHECK_PHASE_IDLE:
        return "probed when the task starts"
    if not check.attached:
        return "probed as soon as its executor is back"
    return "probed now"
