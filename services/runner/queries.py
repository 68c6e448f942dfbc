"""What operators ask for. Knows nothing of gRPC: errors are exceptions of the domain."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from services.runner import views
from services.runner.budgets import Request
from services.runner.records import Cause
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.common.keys import TaskKey
    from services.runner.archive import Archive
    from services.runner.book import Book
    from services.runner.runner import Runner
    from trivet.link.v1 import link_pb2

MAX_PAGE = 1000
_TOKEN = re.compile("[0-9a-f]{32}")


class RunnerError(Exception):
    """Something that an operator asked for cannot be had; the text says what and why."""


class UnknownTask(RunnerError):
    """No task of that id, or it ended too long ago."""


class BadRequest(RunnerError):
    """A field has a value that cannot be; the text begins with the field."""


class NotRecorded(RunnerError):
    """The request could not be written down, so it may be forgotten: ask again."""


class Queries:
    """Live and ended tasks as one collection."""

    def __init__(self, runner: Runner, archive: Archive) -> None:
        self._runner = runner
        self._archive = archive

    def get(self, task_id: str) -> runner_pb2.GetTaskResponse:
        """Everything about the newest task of that id.

        Raises:
            UnknownTask: There is none.
        """
        book = self._live(task_id)
        if book is not None:
            return views.response(book, attached=self._runner.attached(book.key))
        for key in reversed(self._archive.task_keys()):
            if key.task_id == task_id and (details := self._archive.details(key)) is not None:
                return details
        raise _unknown(task_id)

    def page(self, size: int, token: str, *, active_only: bool) -> runner_pb2.ListTasksResponse:
        """Tasks in a fixed order, which new tasks do not disturb.

        Raises:
            BadRequest: `token` is not from here.
        """
        keys = [key for key, book in self._runner.books.items() if not (active_only and book.state.over)]
        if not active_only:
            keys += self._archive.task_keys()
        keys.sort(key=_token)
        if token:
            if not _TOKEN.fullmatch(token):
                raise BadRequest("page_token: not one of this service")
            keys = [key for key in keys if _token(key) > token]
        limit = min(size or MAX_PAGE, MAX_PAGE)
        page = [task for key in keys[:limit] if (task := self._task(key)) is not None]
        following = _token(keys[limit - 1]) if len(keys) > limit else ""
        return runner_pb2.ListTasksResponse(tasks=page, next_page_token=following)

    def snapshot(self, task_id: str) -> Iterator[runner_pb2.WatchTasksResponse]:
        """Everything that is true now, live tasks and an ended one that `task_id` names; then the mark of its end."""
        for key, book in list(self._runner.books.items()):
            if task_id in ("", key.task_id):
                whole = views.task(book, attached=self._runner.attached(key))
                yield runner_pb2.WatchTasksResponse(task=whole)
        if task_id and self._live(task_id) is None:
            for key in reversed(self._archive.task_keys()):
                if key.task_id == task_id:
                    yield runner_pb2.WatchTasksResponse(task=self._archive.get(key))
                    break
        yield runner_pb2.WatchTasksResponse(snapshot=runner_pb2.Snapshot())

    def kill(self, task_id: str, grace: float | None) -> link_pb2.TaskState:
        """Ends a task in order. Of a task that is over nothing changes.

        Raises:
            BadRequest: `grace` is no number of seconds.
            UnknownTask: There is no such task.
            NotRecorded: The journal takes no records.
        """
        if grace is not None and not (math.isfinite(grace) and grace >= 0):
            raise BadRequest(f"grace_secs: must be a number of seconds, 0 or more, is {grace}")
        book = self._live(task_id)
        if book is None:
            return self.get(task_id).task.state
        if not book.trouble:
            self._runner.end(book, Request(Cause.OPERATOR, grace=grace))
        if book.trouble:
            raise NotRecorded(f"{task_id}: {book.trouble}")
        return views.task_state(book)

    def _live(self, task_id: str) -> Book | None:
        books = [book for key, book in self._runner.books.items() if key.task_id == task_id]
        # A task that is over may still be listed next to its successor.
        return max(books, key=lambda book: (not book.state.over, book.head.launched_at), default=None)

    def _task(self, key: TaskKey) -> runner_pb2.Task | None:
        book = self._runner.books.get(key)
        if book is not None:
            return views.task(book, attached=self._runner.attached(key))
        return self._archive.get(key)


def _token(key: TaskKey) -> str:
    return key.file_name


def _unknown(task_id: str) -> UnknownTask:
    return UnknownTask(f"task_id: no task '{task_id}'")
