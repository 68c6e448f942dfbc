"""What an operator may be told instead of an answer. Each error of the domain has one gRPC status, see `servicer`."""

from __future__ import annotations


class RunnerError(Exception):
    """Something that an operator asked for cannot be had; the text says what and why."""


class UnknownTask(RunnerError):
    """No task, process or run of that name, or it ended too long ago."""


class AmbiguousTask(RunnerError):
    """Several executors have a live task of that id; the text lists them."""


class DamagedTask(RunnerError):
    """All that is known of the task is a journal that cannot be trusted; the text names file and offset."""


class BadRequest(RunnerError):
    """A field has a value that cannot be; the text begins with the field."""


class NotRecorded(RunnerError):
    """The request could not be written down, so it may be forgotten: ask again."""


class ExecutorAway(RunnerError):
    """Only the executor can answer, and it is not attached at the moment: ask again."""


class ExecutorGone(RunnerError):
    """Only the executor could answer, and it is gone for good."""


class NoSuchLog(RunnerError):
    """There is no such file in the sandbox; the text names it."""


class LogRefused(RunnerError):
    """The file is not read; the text says why."""


class Busy(RunnerError):
    """Too many ask at the same time."""
