"""Which check an operator means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.health.model import Kind, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.health.entry import Entry


class UnknownCheck(Exception):
    """There is no such check; the text says what there is instead, and where to look."""


class AmbiguousTask(Exception):
    """Several executors have a task of that id; the text names them."""


def choose(
    entries: Iterable[Entry], kind: Kind | None, task_id: str, executor_id: str = "", framework_id: str = ""
) -> tuple[Entry, Kind]:
    """A check of the newest launch of the task that has it.

    Whose driver is attached goes first: a task that ended while the service was away has none until it is dropped.
    Next goes what is not over.

    Args:
        entries: All tasks.
        kind: Which check; None: that of the task's health if there is one, else the other.
        task_id: The task.
        executor_id: Its executor; empty: any.
        framework_id: The executor's framework; empty: any.

    Raises:
        UnknownCheck: There is none.
        AmbiguousTask: It may be that of several executors: of several that are attached, or none of them is.
    """
    tasks = [
        entry
        for entry in entries
        if entry.key.task_id == task_id
        and executor_id in ("", entry.key.executor.executor_id)
        and framework_id in ("", entry.key.executor.framework_id)
    ]
    found = [entry for entry in tasks if (kind in entry.checked if kind else entry.checked)]
    if not found:
        raise UnknownCheck(_missing(tasks, kind, task_id))
    found = [entry for entry in found if entry.session is not None] or found
    found = [entry for entry in found if not over(entry, kind)] or found
    executors = {(entry.key.executor.executor_id, entry.key.executor.framework_id) for entry in found}
    if len(executors) > 1:
        names = ", ".join(f"{executor!r} of framework {framework!r}" for executor, framework in sorted(executors))
        raise AmbiguousTask(f"task_id: {task_id!r} is a task of several executors: {names}: say which one")
    # Of two incarnations that are both there, one is on its way out: that which came first.
    entry = max(reversed(found), key=lambda entry: entry.key.launch)
    return entry, kind or next(iter(entry.checked))


def over(entry: Entry, kind: Kind | None = None) -> bool:
    """Nothing of the task is probed any more; with `kind`: that check, which the task has, is not."""
    return all(entry.check(each).phase is Phase.STOPPED for each in (entry.checked if kind is None else (kind,)))


def _missing(tasks: list[Entry], kind: Kind | None, task_id: str) -> str:
    what = "check" if kind is Kind.CHECK else "health check"
    there = [each for entry in tasks for each in entry.checked]
    if there:
        why = f"it has only a {'check, whose results are told as they are' if Kind.CHECK in there else 'health check'}"
    elif tasks:
        why = "none is configured (health_check_config, TaskInfo.health_check, TaskInfo.check)"
    else:
        why = "ListChecks names all tasks that have one"
    return f"task_id: no {what} of a task {task_id!r}: {why}"
