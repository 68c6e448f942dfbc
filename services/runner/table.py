"""All live tasks, by their key, by their executor, and executors by the name that they share with older ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.common.keys import Executor, TaskKey
    from services.runner.book import Book


class Table:
    """Books from their launch until they are archived."""

    def __init__(self) -> None:
        self.books: dict[TaskKey, Book] = {}
        self._by_executor: dict[Executor, dict[TaskKey, Book]] = {}
        # Incarnations of each (framework id, executor id) that have tasks here.
        self._kin: dict[tuple[str, str], set[Executor]] = {}

    def add(self, book: Book) -> None:
        """Takes a task in; its key is a new one."""
        executor = book.key.executor
        self.books[book.key] = book
        self._by_executor.setdefault(executor, {})[book.key] = book
        self._kin.setdefault(executor[:2], set()).add(executor)

    def remove(self, key: TaskKey) -> None:
        """A task that is not live any more."""
        del self.books[key]
        books = self._by_executor[key.executor]
        del books[key]
        if not books:
            del self._by_executor[key.executor]
            kin = self._kin[key.executor[:2]]
            kin.discard(key.executor)
            if not kin:
                del self._kin[key.executor[:2]]

    def executors(self) -> Iterator[Executor]:
        """Those that have live tasks."""
        return iter(self._by_executor)

    def of(self, executor: Executor) -> list[Book]:
        """The live tasks of an executor."""
        return list(self._by_executor.get(executor, {}).values())

    def others(self, executor: Executor) -> list[Executor]:
        """Other incarnations of an executor that have live tasks."""
        return [other for other in self._kin.get(executor[:2], ()) if other != executor]
