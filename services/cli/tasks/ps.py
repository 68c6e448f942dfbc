"""`trivet ps`: the tasks that the runner knows."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from services.cli.tasks import note
from services.cli.tasks.texts import OVER, cause_name, phase_name, since, table
from services.cli.views.texts import printable
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from services.cli.tasks.connection import Runner
    from trivet.link.v1 import link_pb2

_HEAD = ("TASK", "PHASE", "RUNNING", "SINCE", "ATTACHED", "EXECUTOR")
# Begins the runner's warning that it cannot write down what it would do: new processes are held back.
_TROUBLE = "journal: "


async def ps(options: argparse.Namespace, runner: Runner) -> int:
    """Prints one line a task, those that began first at the top.

    Raises:
        RunnerRefused: no answer.
    """
    request = runner_pb2.ListTasksRequest(
        active_only=not options.all,
        task_id=options.pattern or "",
        executor_id=options.executor or "",
        framework_id=options.framework or "",
    )
    tasks: list[runner_pb2.Task] = []
    damaged: list[runner_pb2.DamagedJournal] = []
    while True:
        page: runner_pb2.ListTasksResponse = await runner.ask("ListTasks", request)
        tasks += page.tasks
        damaged += page.damaged
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    tasks.sort(key=lambda task: (_began(task), task.state.key.task_id))
    if options.json:
        for task in tasks:
            print(json.dumps(as_object(task)))
        for journal in damaged:
            print(json.dumps(_damage(journal)))
        return 0
    now = time.time()
    if tasks:
        for line in table(_HEAD, [row(task, now) for task in tasks]):
            print(line)
    else:
        matching = f" matches {options.pattern!r}" if options.pattern else ""
        print("no task" + (matching or "s") + ("" if options.all else " (ended ones: --all)"))
    for task in tasks:
        for text in task.warnings:
            if text.startswith(_TROUBLE):
                note(f"{printable(task.state.key.task_id)}: {printable(text)}")
    for journal in damaged:
        note(f"a journal was put aside: {journal.error} (trivet journal {journal.path})")
    return 0


def row(task: runner_pb2.Task, now: float) -> tuple[str, ...]:
    """One task as columns; `now`: wall clock, seconds."""
    key = task.state.key
    over = task.state.phase in OVER
    attached = "-" if over else "yes" if task.attached else "NO"
    at = task.phases[-1].at if task.phases else 0.0
    running = f"{running_count(task.processes)}/{total_count(task)}"
    return (
        key.task_id,
        phase_name(task.state.phase),
        running,
        since(at, now),
        attached,
        key.executor.executor_id,
    )


def running_count(runs: Iterable[runner_pb2.ProcessRun]) -> int:
    """How many of these live. A start that the hands have not confirmed may never have been sent."""
    return sum(run.state == runner_pb2.PROCESS_STATE_RUNNING for run in runs)


def total_count(task: runner_pb2.Task) -> int:
    """Processes of a task. A runner that does not tell it tells at least those that have runs."""
    return max(task.process_count, len(task.processes))


def as_object(task: runner_pb2.Task) -> dict[str, Any]:
    """The same for programs. Times are wall clock, seconds."""
    state = task.state
    return {
        "type": "task",
        **key_object(state.key),
        "name": task.name,
        "user": task.user or None,
        "phase": phase_name(state.phase),
        "phases": [{"phase": phase_name(change.phase), "at": change.at} for change in task.phases],
        "over": state.phase in OVER,
        "end_cause": cause_name(state.end_cause) if state.end_cause else None,
        "message": state.message or None,
        "running": running_count(task.processes),
        "total": total_count(task),
        "attached": task.attached,
        "hostname": task.hostname or None,
        "sandbox": task.sandbox or None,
        "ports": dict(task.ports),
        "warnings": list(task.warnings),
    }


def key_object(key: link_pb2.TaskKey) -> dict[str, Any]:
    """Which task it is."""
    return {
        "task_id": key.task_id,
        "executor_id": key.executor.executor_id,
        "framework_id": key.executor.framework_id,
        "launch": key.launch,
    }


def _damage(journal: runner_pb2.DamagedJournal) -> dict[str, Any]:
    return {
        "type": "damaged",
        "path": journal.path,
        "error": journal.error,
        "offset": journal.offset,
        "task_id": journal.key.task_id if journal.HasField("key") else None,
    }


def _began(task: runner_pb2.Task) -> float:
    return task.phases[0].at if task.phases else 0.0
