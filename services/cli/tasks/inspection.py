"""`trivet inspect`: everything that the runner knows of one task."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from services.cli.plantree import tree
from services.cli.tasks.ps import as_object, key_object
from services.cli.tasks.texts import (
    LIVE,
    OVER,
    cause_name,
    ending,
    moment,
    number_of,
    phase_name,
    seconds,
    size,
    state_name,
)
from services.cli.validate import marks_of
from services.cli.views.texts import printable
from services.common.task import Graph
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from services.cli.tasks.connection import Runner

# Runs of one process unless all are asked for: a daemon may have a hundred.
_SHOWN_RUNS = 5


async def inspect(options: argparse.Namespace, runner: Runner) -> int:
    """Prints one task.

    Raises:
        RunnerRefused: there is no such task, or several, or no answer.
    """
    request = runner_pb2.GetTaskRequest(
        task_id=options.task,
        executor_id=options.executor or "",
        framework_id=options.framework or "",
        usage=True,
    )
    whole: runner_pb2.GetTaskResponse = await runner.ask("GetTask", request)
    if options.json:
        print(json.dumps(details_object(whole)))
    else:
        for line in report(whole, time.time(), all_runs=options.all):
            print(line)
    return 0


def report(whole: runner_pb2.GetTaskResponse, now: float, *, all_runs: bool = False) -> Iterator[str]:
    """What there is to say, for people. No command lines: they may hold secrets.

    Args:
        whole: the runner's answer.
        now: wall clock, seconds.
        all_runs: every run of every process, not only the newest ones.
    """
    yield f"task {printable(whole.task.state.key.task_id)}"
    for what, text in _facts(whole, now):
        yield f"  {what:<10} {text}"
    for text in whole.task.warnings:
        yield f"  warning: {printable(text)}"
    yield from _plan(whole, now, all_runs=all_runs)


def _facts(whole: runner_pb2.GetTaskResponse, now: float) -> Iterator[tuple[str, str]]:
    task = whole.task
    state, key = task.state, task.state.key
    over = state.phase in OVER
    yield "name", printable(task.name) or "-"
    yield "executor", f"{printable(key.executor.executor_id)} of framework {printable(key.executor.framework_id)}"
    if not over:
        yield "attached", "yes" if task.attached else "no: its executor is away, and nothing can be done in it"
    yield "phase", phase_name(state.phase) + (f": {printable(state.message)}" if state.message else "")
    if state.end_cause:
        yield "cause", cause_name(state.end_cause)
    for change in task.phases:
        yield "", f"{moment(change.at)}  {phase_name(change.phase)}"
    yield "user", printable(task.user) or "whoever the executor is"
    yield "host", printable(task.hostname) or "-"
    yield "sandbox", printable(task.sandbox) or "-"
    if task.ports:
        yield "ports", ", ".join(f"{printable(name)} {number}" for name, number in sorted(task.ports.items()))
    if whole.HasField("usage"):
        yield from _usage(whole.usage, now)


def _usage(usage: runner_pb2.TaskUsage, now: float) -> Iterator[tuple[str, str]]:
    if usage.at:
        yield "uses", f"{consumption(usage.total)} ({seconds(now - usage.at)} ago)"
    if usage.HasField("disk"):
        disk = usage.disk
        limit = f" of {size(disk.limit_bytes)}" if disk.limit_bytes else ""
        least = "at least " if disk.partial else ""
        yield "disk", f"{least}{size(disk.used_bytes)}{limit} ({seconds(now - disk.at)} ago)"


def consumption(use: runner_pb2.Consumption) -> str:
    """`0.52 cores, 12.3 s of CPU, 40.1 MiB, 3 processes, 12 threads`."""
    words = [f"{use.cpus:.2f} cores"] if use.HasField("cpus") else []
    words += [
        f"{use.cpu_secs:.2f} s of CPU",
        size(use.rss_bytes),
        number_of(use.processes, "process", "processes"),
        number_of(use.threads, "thread", "threads"),
    ]
    return ", ".join(words)


def _plan(whole: runner_pb2.GetTaskResponse, now: float, *, all_runs: bool) -> Iterator[str]:
    spec = whole.spec.task
    uses = {(entry.process, entry.run): entry.use for entry in whole.usage.processes}
    runs: dict[str, list[runner_pb2.ProcessRun]] = {process.name: [] for process in spec.processes}
    for run in sorted(whole.runs or whole.task.processes, key=lambda run: run.run):
        runs.setdefault(run.process, []).append(run)
    logs = whole.usage.disk.log_bytes if whole.usage.HasField("disk") else {}

    def below(name: str) -> Iterator[str]:
        hidden = 0 if all_runs else max(len(runs[name]) - _SHOWN_RUNS, 0)
        if hidden:
            yield f"{number_of(hidden, 'earlier run', 'earlier runs')} (--all)"
        for run in runs[name][hidden:]:
            use = uses.get((name, run.run))
            yield _run(run, now) + ("" if use is None else f"; {consumption(use)}")

    if not spec.processes:
        # The runner has only a summary, or could not read the task.
        for name in runs:
            yield f"  {printable(name)}"
            yield from (f"    {line}" for line in below(name))
        return
    graph = Graph.of(spec)
    by_name = {process.name: process for process in spec.processes}

    def label(name: str) -> str:
        marks = list(marks_of(by_name[name]))
        if logs.get(name):
            marks.append(f"{size(logs[name])} of logs")
        return f"{printable(name)} [{', '.join(marks)}]" if marks else printable(name)

    for title, final in (("plan", False), ("final", True)):
        names = [process.name for process in spec.processes if process.final is final]
        if names:
            yield f"  {title}: {number_of(len(names), 'process', 'processes')}"
            yield from (f"    {line}" for line in tree(graph, names, label, below))


def _run(run: runner_pb2.ProcessRun, now: float) -> str:
    """One run on one line."""
    words = [f"run {run.run} {state_name(run.state)}"]
    if run.pid and run.state in LIVE:
        words.append(f"pid {run.pid}")
    if how := ending(run):
        words.append(how)
    began = run.running_at or run.forked_at
    if began:
        words.append(f"from {moment(began)}")
    if run.ended_at:
        words.append(f"to {moment(run.ended_at)}")
    if began:
        words.append(f"({seconds((run.ended_at or now) - began)})")
    return " ".join(words) + (f": {printable(run.error)}" if run.error else "")


def details_object(whole: runner_pb2.GetTaskResponse) -> dict[str, Any]:
    """The same for programs. Times are wall clock, seconds; no command lines."""
    spec = whole.spec.task
    graph = Graph.of(spec)
    runs: dict[str, list[dict[str, Any]]] = {process.name: [] for process in spec.processes}
    for run in sorted(whole.runs or whole.task.processes, key=lambda run: run.run):
        runs.setdefault(run.process, []).append(_run_object(run))
    by_name = {process.name: process for process in spec.processes}
    processes = []
    for name, made in runs.items():
        said: dict[str, Any] = {"name": name}
        if name in by_name:
            fields = ("daemon", "ephemeral", "final", "max_failures", "min_duration")
            said |= {field: getattr(by_name[name], field) for field in fields}
            said["after"] = list(graph.predecessors[name])
        processes.append(said | {"runs": made})
    usage = usage_object(whole.usage) if whole.HasField("usage") else None
    return as_object(whole.task) | {"processes": processes, "usage": usage}


def _run_object(run: runner_pb2.ProcessRun) -> dict[str, Any]:
    exit_ = run.exit
    times = ("waiting_at", "forked_at", "running_at", "ended_at")
    return {
        "run": run.run,
        "state": state_name(run.state),
        "pid": run.pid or None,
        "exit_code": exit_.code if exit_.HasField("code") else None,
        "signal": exit_.signal if exit_.HasField("signal") else None,
        "core_dumped": exit_.core_dumped,
        "error": run.error or None,
        **{name: getattr(run, name) or None for name in times},
    }


def usage_object(usage: runner_pb2.TaskUsage) -> dict[str, Any]:
    """A sample for programs."""
    disk = usage.disk
    return {
        "at": usage.at or None,
        "total": _use_object(usage.total) if usage.at else None,
        "processes": [
            {"process": entry.process, "run": entry.run, **_use_object(entry.use)} for entry in usage.processes
        ],
        "disk": {
            "at": disk.at,
            "used_bytes": disk.used_bytes,
            "limit_bytes": disk.limit_bytes or None,
            "entries": disk.entries,
            "partial": disk.partial,
            "log_bytes": dict(disk.log_bytes),
        }
        if usage.HasField("disk")
        else None,
    }


def usage_event(update: runner_pb2.WatchUsageResponse) -> dict[str, Any]:
    """One message of WatchUsage for programs."""
    return {
        "type": "over" if update.over else "usage",
        **key_object(update.key),
        "name": update.name or None,
        "usage": None if update.over else usage_object(update.usage),
    }


def _use_object(use: runner_pb2.Consumption) -> dict[str, Any]:
    return {
        "cpu_secs": use.cpu_secs,
        "cpus": use.cpus if use.HasField("cpus") else None,
        "rss_bytes": use.rss_bytes,
        "threads": use.threads,
        "processes": use.processes,
    }
