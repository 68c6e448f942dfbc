"""What operators ask for. Knows nothing of gRPC: errors are exceptions of the domain."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from services.runner import views
from services.runner.budgets import Request
from services.runner.errors import AmbiguousTask, BadRequest, DamagedTask, NotRecorded, UnknownTask
from services.runner.filters import Choice, Filter
from services.runner.records import Cause
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.common.keys import TaskKey
    from services.runner.archive import Archive
    from services.runner.book import Book
    from services.runner.runner import Runner
    from services.runner.store import Damage
    from trivet.link.v1 import link_pb2

MAX_PAGE = 1000
_TOKEN = re.compile("[0-9a-f]{32}")


class Queries:
    """Live and ended tasks as one collection."""

    def __init__(self, runner: Runner, archive: Archive, damages: Sequence[Damage] = ()) -> None:
        self._runner = runner
        self._archive = archive
        self._damages = damages

    def get(self, task_id: str, executor_id: str = "", framework_id: str = "") -> runner_pb2.GetTaskResponse:
        """Everything about the newest task of that id.

        Raises:
            UnknownTask: There is none.
            AmbiguousTask: Several executors have a live one.
            DamagedTask: There was one.
        """
        choice = Choice(task_id, executor_id, framework_id)
        book = self._chosen(choice)
        return self._ended(choice) if book is None else self.shown(book)

    def find(self, task_id: str, executor_id: str = "", framework_id: str = "") -> Book | None:
        """The live task of that id; None: it is over, and `get` still shows it.

        Raises:
            UnknownTask: There is none.
            AmbiguousTask: Several executors have a live one.
            DamagedTask: There was one.
        """
        choice = Choice(task_id, executor_id, framework_id)
        book = self._chosen(choice)
        if book is None:
            self._ended(choice)
        return book

    def shown(self, book: Book) -> runner_pb2.GetTaskResponse:
        """Everything about a live task."""
        return views.response(book, attached=self._runner.attached(book.key))

    def page(self, request: runner_pb2.ListTasksRequest) -> runner_pb2.ListTasksResponse:
        """Tasks in a fixed order, which new tasks do not disturb.

        Raises:
            BadRequest: The token is not from here, or a condition cannot be.
        """
        wanted = Filter(request)
        token = request.page_token
        if token and not _TOKEN.fullmatch(token):
            raise BadRequest("page_token: not one of this service")
        keys = [*self._runner.books, *(self._archive.task_keys() if wanted.wants_ended else ())]
        limit = min(request.page_size or MAX_PAGE, MAX_PAGE)
        tasks: list[runner_pb2.Task] = []
        last = following = ""
        for name, key in sorted((_token(key), key) for key in keys if wanted.takes_key(key)):
            if name <= token or (task := self._task(key)) is None or not wanted.takes(task):
                continue
            if len(tasks) == limit:
                following = last
                break
            tasks.append(task)
            last = name
        damaged = [] if token else [views.damaged(damage) for damage in self._damages]
        return runner_pb2.ListTasksResponse(tasks=tasks, next_page_token=following, damaged=damaged)

    def snapshot(self, task_id: str) -> Iterator[runner_pb2.WatchTasksResponse]:
        """Everything that is true now, live tasks and an ended one that `task_id` names; then the mark of its end."""
        for key, book in list(self._runner.books.items()):
            if task_id in ("", key.task_id):
                whole = views.task(book, attached=self._runner.attached(key))
                yield runner_pb2.WatchTasksResponse(task=whole)
        if task_id and not any(key.task_id == task_id for key in self._runner.books):
            for key in reversed(self._archive.task_keys()):
                if key.task_id == task_id:
                    yield runner_pb2.WatchTasksResponse(task=self._archive.get(key))
                    break
        yield runner_pb2.WatchTasksResponse(snapshot=runner_pb2.Snapshot())

    def kill(
        self, task_id: str, grace: float | None, executor_id: str = "", framework_id: str = ""
    ) -> link_pb2.TaskState:
        """Ends a task in order. Of a task that is over nothing changes.

        Raises:
            BadRequest: `grace` is no number of seconds.
            UnknownTask: There is no such task.
            AmbiguousTask: Several executors have one.
            NotRecorded: The journal takes no records.
        """
        if grace is not None and not (math.isfinite(grace) and grace >= 0):
            raise BadRequest(f"grace_secs: must be a number of seconds, 0 or more, is {grace}")
        return self._end(Choice(task_id, executor_id, framework_id), Request(Cause.OPERATOR, grace=grace))

    def lose(self, task_id: str, executor_id: str = "", framework_id: str = "") -> link_pb2.TaskState:
        """Gives a task up: SIGKILL at once, no final processes, LOST. Of a task that is over nothing changes.

        Raises:
            UnknownTask: There is no such task.
            AmbiguousTask: Several executors have one.
            NotRecorded: The journal takes no records.
        """
        return self._end(Choice(task_id, executor_id, framework_id), Request(Cause.LOSE))

    def _end(self, choice: Choice, request: Request) -> link_pb2.TaskState:
        book = self._chosen(choice)
        if book is None:
            return self._ended(choice).task.state
        if not book.trouble:
            self._runner.end(book, request)
        if book.trouble:
            raise NotRecorded(f"{choice.task_id}: {book.trouble}")
        return views.task_state(book)

    def _chosen(self, choice: Choice) -> Book | None:
        found = choice.among(self._runner.books.values())
        executors = {book.key.executor for book in found if not book.state.over}
        if len(executors) > 1:
            names = ", ".join(sorted(f"'{each.executor_id}' of framework '{each.framework_id}'" for each in executors))
            raise AmbiguousTask(f"task_id: '{choice.task_id}' runs in several executors: {names}: say which one")
        # A task that is over may still be listed next to its successor.
        return max(found, key=lambda book: book.state.launched_at, default=None)

    def _ended(self, choice: Choice) -> runner_pb2.GetTaskResponse:
        for key in reversed(self._archive.task_keys()):
            if choice.takes(key) and (details := self._archive.details(key)) is not None:
                return details
        for damage in reversed(self._damages):
            if damage.key is not None and choice.takes(damage.key):
                raise DamagedTask(f"task_id: '{choice.task_id}': {damage.error}")
        raise UnknownTask(f"task_id: no task '{choice.task_id}'")

    def _task(self, key: TaskKey) -> runner_pb2.Task | None:
        book = self._runner.books.get(key)
        if book is not None:
            return views.task(book, attached=self._runner.attached(key))
        return self._archive.get(key)


def _token(key: TaskKey) -> str:
    return key.file_name
