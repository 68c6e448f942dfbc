"""Which executors there are, with which tasks and which live stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.common.attach import Session
    from services.common.keys import Executor, TaskKey
    from services.reporter.task import ReportedTask
    from trivet.reporter.v1 import reporter_pb2

    ReporterSession = Session[reporter_pb2.AttachResponse]


class Executors:
    """All executors that have unfinished tasks or a live stream."""

    def __init__(self) -> None:
        self._tasks: dict[Executor, dict[TaskKey, ReportedTask]] = {}
        # The incarnations of an executor, by framework id and executor id.
        self._runs: dict[tuple[str, str], set[Executor]] = {}
        self._sessions: dict[Executor, ReporterSession] = {}

    def __iter__(self) -> Iterator[Executor]:
        return iter(self._tasks)

    def add(self, task: ReportedTask) -> None:
        """A task is taken up."""
        self.enter(task.key.executor)[task.key] = task

    def enter(self, executor: Executor) -> dict[TaskKey, ReportedTask]:
        """The tasks of an executor, known or new."""
        tasks = self._tasks.get(executor)
        if tasks is None:
            tasks = self._tasks[executor] = {}
            self._runs.setdefault(executor[:2], set()).add(executor)
        return tasks

    def forget(self, executor: Executor) -> None:
        """The executor is over; its tasks are finished."""
        if self._tasks.pop(executor, None) is not None:
            runs = self._runs[executor[:2]]
            runs.discard(executor)
            if not runs:
                del self._runs[executor[:2]]

    def task(self, key: TaskKey) -> ReportedTask | None:
        """One task."""
        return self._tasks.get(key.executor, {}).get(key)

    def tasks_of(self, executor: Executor) -> list[ReportedTask]:
        """The tasks of an executor, as they are now."""
        return list(self._tasks.get(executor, {}).values())

    def remove(self, task: ReportedTask) -> None:
        """The task is finished."""
        self._tasks.get(task.key.executor, {}).pop(task.key, None)

    def all_tasks(self) -> Iterator[ReportedTask]:
        """The tasks of all executors."""
        for tasks in self._tasks.values():
            yield from tasks.values()

    def dead_runs_of(self, executor: Executor) -> list[Executor]:
        """Other incarnations of the executor without a live stream: one executor id has one run at a time."""
        return [other for other in self._runs[executor[:2]] if other != executor and other not in self._sessions]

    def attach(self, session: ReporterSession) -> None:
        """The executor's live stream is this one."""
        self.enter(session.executor)
        self._sessions[session.executor] = session

    def detach(self, session: ReporterSession) -> bool:
        """The stream is gone; false when a newer one has taken its place."""
        if self._sessions.get(session.executor) is not session:
            return False
        del self._sessions[session.executor]
        return True

    def session(self, executor: Executor) -> ReporterSession | None:
        """The executor's live stream."""
        return self._sessions.get(executor)
