"""`trivet kill` through the runner: tasks are ended in order, and their ends are waited for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from services.cli.tasks import CANNOT_START, FAILED, note
from services.cli.tasks.connection import RunnerRefused
from services.cli.tasks.ps import running_count, total_count
from services.cli.tasks.texts import OVER, phase_name
from services.cli.views.texts import printable
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import argparse

    from services.cli.tasks.connection import Runner
    from trivet.link.v1 import link_pb2


async def kill(options: argparse.Namespace, runner: Runner) -> int:
    """Orders the ends of all tasks, then waits for them.

    Returns:
        1: one of them was refused, or has not come in time; 2: all were refused.
    """
    # Twice the same id is one order.
    tasks = list(dict.fromkeys(options.tasks))
    done = await asyncio.gather(*(_order(options, runner, task) for task in tasks))
    ordered = [state for state in done if state is not None]
    if not ordered:
        return CANNOT_START
    status = 0 if all(done) else FAILED
    if options.wait:
        try:
            async with asyncio.timeout(options.timeout):
                ended = await asyncio.gather(*(_until_over(runner, state) for state in ordered))
        except TimeoutError:
            note(f"not all have ended within {options.timeout:g} s; the order stands (trivet ps)")
            return FAILED
        status = max(status, 0 if all(ended) else FAILED)
    return status


async def _order(options: argparse.Namespace, runner: Runner, task: str) -> link_pb2.TaskState | None:
    """The task's state after the order; None: it was refused, and why is said."""
    which: dict[str, Any] = {
        "task_id": task,
        "executor_id": options.executor or "",
        "framework_id": options.framework or "",
    }
    state: link_pb2.TaskState
    try:
        if options.lose:
            state = (await runner.ask("LoseTask", runner_pb2.LoseTaskRequest(**which))).state
        else:
            request = runner_pb2.KillTaskRequest(**which)
            if options.grace is not None:
                request.grace_secs = options.grace
            state = (await runner.ask("KillTask", request)).state
    except RunnerRefused as error:
        for line in error.lines():
            note(f"{task}: {line}")
        return None
    if state.phase in OVER:
        _say(task, f"was over before: {phase_name(state.phase)}")
    elif not options.wait:
        _say(task, "is being ended")
    return state


async def _until_over(runner: Runner, ordered: link_pb2.TaskState) -> bool:
    """Shows how the task ends; False: how cannot be told."""
    if ordered.phase in OVER:
        return True
    key = ordered.key
    said = ""
    seen = False

    def away(why: str) -> None:
        note(f"{key.task_id}: the runner is away, waiting for it ({why})")

    request = runner_pb2.WatchTasksRequest(task_id=key.task_id)
    async with aclosing(runner.stream("WatchTasks", lambda: request, away=away)) as events:
        async for event in events:
            kind = event.WhichOneof("event")
            if kind == "snapshot" and not seen:
                # A newer task has its id, or the runner has lost its records.
                note(f"{key.task_id}: the runner knows it no more: it has ended, and how cannot be told")
                return False
            if kind != "task" or event.task.state.key != key:
                continue
            seen = True
            words = _progress(event.task)
            if words != said:
                _say(key.task_id, words)
                said = words
            if event.task.state.phase in OVER:
                return True
    return False


def _progress(task: runner_pb2.Task) -> str:
    state = task.state
    message = f": {printable(state.message)}" if state.message else ""
    if state.phase in OVER:
        return f"{phase_name(state.phase)}{message}"
    away = "" if task.attached else "; its executor is away, and hears of it when it is back"
    return f"{phase_name(state.phase)}, {running_count(task.processes)} of {total_count(task)} processes run{away}"


def _say(task: str, words: str) -> None:
    print(f"{printable(task)}: {words}", flush=True)
