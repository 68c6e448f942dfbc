"""Which tasks an operator means."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from services.runner.errors import BadRequest
from services.runner.records import TERMINAL, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.common.keys import TaskKey
    from services.runner.book import Book
    from trivet.runner.v1 import runner_pb2

MAX_PATTERN = 1000


class Filter:
    """The conditions of a ListTasksRequest. All must hold."""

    def __init__(self, request: runner_pb2.ListTasksRequest) -> None:
        """Reads them.

        Raises:
            BadRequest: A pattern is too long, or the conditions exclude each other.
        """
        if request.active_only and request.ended_only:
            raise BadRequest("ended_only: cannot be set together with active_only")
        self._executor_id = request.executor_id
        self._framework_id = request.framework_id
        self._task_id = _pattern("task_id", request.task_id)
        self._name = _pattern("name", request.name)
        phases = set(request.phases) or set(Phase)
        if request.active_only:
            phases -= TERMINAL
        if request.ended_only:
            phases &= TERMINAL
        self._phases = {int(phase) for phase in phases}
        self.wants_ended = bool(self._phases & TERMINAL)

    def takes_key(self, key: TaskKey) -> bool:
        """What the key alone tells."""
        return (
            self._executor_id in ("", key.executor.executor_id)
            and self._framework_id in ("", key.executor.framework_id)
            and (self._task_id is None or self._task_id.fullmatch(key.task_id) is not None)
        )

    def takes(self, task: runner_pb2.Task) -> bool:
        """The rest."""
        return task.state.phase in self._phases and (self._name is None or self._name.fullmatch(task.name) is not None)


def _pattern(field: str, text: str) -> re.Pattern[str] | None:
    if len(text) > MAX_PATTERN:
        raise BadRequest(f"{field}: at most {MAX_PATTERN} characters, has {len(text)}")
    return re.compile(fnmatch.translate(text)) if text else None


class Choice:
    """Which of several tasks of one id is meant."""

    def __init__(self, task_id: str, executor_id: str = "", framework_id: str = "") -> None:
        """Executor and framework empty: any."""
        self.task_id = task_id
        self._executor_id = executor_id
        self._framework_id = framework_id

    def takes(self, key: TaskKey) -> bool:
        """The task may be meant."""
        return key.task_id == self.task_id and self.takes_executor(key)

    def takes_executor(self, key: TaskKey) -> bool:
        """A task of that executor may be meant."""
        return self._executor_id in ("", key.executor.executor_id) and self._framework_id in (
            "",
            key.executor.framework_id,
        )

    def among(self, books: Iterable[Book]) -> list[Book]:
        """The live tasks that may be meant; those that are over only if there are no others."""
        found = [book for book in books if self.takes(book.key)]
        return [book for book in found if not book.state.over] or found
