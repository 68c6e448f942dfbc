"""Log lines of the services: one JSON object a line on stderr."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time


class JsonFormatter(logging.Formatter):
    """Fields: ts (wall clock, UTC), level, service, msg, and `extra={"fields": {...}}`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception becomes the field `error`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "ts": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "msg": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PatientHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes remarks when the event loop has done what is more urgent: an answer goes out before the line about it.

    Warnings and errors, and everything outside of a loop, are written at once.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, now or at the loop's next turn."""
        if record.levelno >= logging.WARNING:
            super().emit(record)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            super().emit(record)
            return
        loop.call_soon(super().emit, record)


class Occasional:
    """Lets a complaint through once a minute: what goes wrong every second for every task is said once."""

    def __init__(self, pause_secs: float = 60.0) -> None:
        self._pause_secs = pause_secs
        self._not_before = 0.0
        self._left_out = 0

    def error(self, logger: logging.Logger, message: str, fields: dict[str, object]) -> None:
        """Logs an error, or counts it for the next time."""
        now = time.monotonic()
        if now < self._not_before:
            self._left_out += 1
            return
        self._not_before = now + self._pause_secs
        logger.error(message, extra={"fields": {**fields, "left_out": self._left_out}})
        self._left_out = 0


def configure(service: str, level: str = "info") -> None:
    """Sets the root logger up. Call once, from `main`."""
    handler = PatientHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
