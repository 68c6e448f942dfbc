"""`trivet validate`: is the task in a file valid, and what would be done? Nothing is started."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from services.cli import checks
from services.cli.plantree import tree
from services.cli.views.texts import printable
from services.common.task import Graph
from services.common.task.offline import Examined, examine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from services.common.task import LoadedTask
    from trivet.task.v1 import task_pb2

VALID = 0
INVALID = 1
UNREADABLE = 2

_FORMS = {"task": "a Thermos task", "job": "an Aurora job", "instance": "an Aurora task instance"}


def validate(options: argparse.Namespace) -> int:
    """Examines every file; the worst of what it finds is the exit status."""
    status = VALID
    try:
        for file in options.file:
            status = max(status, _validate(file, options))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. Nothing may be left for the interpreter to flush.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _validate(file: str, options: argparse.Namespace) -> int:
    try:
        data = _read(file)
    except OSError as error:
        sys.stdout.flush()
        sys.stderr.write(f"trivet: {printable(file)}: {error.strerror}\n")
        return UNREADABLE
    examined = examine(data, options.port, aurora=options.aurora)
    lines = [json.dumps(as_object(file, examined))] if options.json else list(report(file, examined))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return VALID if examined.loaded is not None else INVALID


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    with open(file, "rb") as opened:
        return opened.read()


def report(file: str, examined: Examined) -> Iterator[str]:
    """What there is to say of a file, for people."""
    name = "stdin" if file == "-" else printable(file)
    kind = "".join(f" in {'an' if around[0] == 'A' else 'a'} {around}" for around in reversed(examined.wrapping))
    kind = _FORMS.get(examined.form, "") + kind
    loaded = examined.loaded
    if loaded is None:
        yield f"{name}: invalid{f', {kind}' if examined.form else ''}"
        yield from (f"  violation: {text}" for text in examined.violations)
    else:
        yield f"{name}: valid, {kind}"
        for what, text in _facts(examined, loaded):
            yield f"  {what:<10} {text}"
    yield from (f"  warning: {text}" for text in examined.warnings)
    if loaded is not None:
        yield from _plan(loaded.task.task)


def _facts(examined: Examined, loaded: LoadedTask) -> Iterator[tuple[str, str]]:
    task = loaded.task.task
    yield "name", printable(loaded.name)
    yield "user", printable(loaded.user) or "whoever the executor is"
    if examined.ports:
        yield "ports", ", ".join(f"{name} {_number(number)}" for name, number in sorted(examined.ports.items()))
    yield from checks.facts(examined)
    yield "lifecycle", _lifecycle(examined, loaded)
    yield "limits", ", ".join(_limits(task))
    yield "end", f"{task.finalization_wait} s for ending everything{_finals(task)}"


def _number(number: int | None) -> str:
    return "(from the agent)" if number is None else str(number)


def _finals(task: task_pb2.ThermosTask) -> str:
    return " and the final processes" if any(process.final for process in task.processes) else ""


def _lifecycle(examined: Examined, loaded: LoadedTask) -> str:
    if loaded.lifecycle is not None:
        steps = ", ".join(f"POST {path} and {wait:g} s" for path, wait in loaded.lifecycle.steps)
        return f"{steps} before any signal"
    port = examined.lifecycle_by_port
    return f"HTTP if the agent assigns a port `{printable(port)}`" if port else "none"


def _limits(task: task_pb2.ThermosTask) -> Iterator[str]:
    failures = task.max_failures
    yield f"fails with {_count(failures, 'failed process', 'failed processes')}" if failures else "never fails"
    if task.max_concurrency:
        yield f"{_count(task.max_concurrency, 'process', 'processes')} at a time"
    for name, unit in (("cpu", "cores"), ("ram", "bytes"), ("disk", "bytes"), ("gpu", "GPUs")):
        amount = getattr(task.resources, name)
        if amount:
            yield f"{name} {amount:g} {unit}" if name == "cpu" else f"{name} {amount} {unit}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _plan(task: task_pb2.ThermosTask) -> Iterator[str]:
    graph = Graph.of(task)
    by_name = {process.name: process for process in task.processes}

    def label(name: str) -> str:
        marks = ", ".join(marks_of(by_name[name]))
        return f"{printable(name)} [{marks}]" if marks else printable(name)

    for title, final in (("plan", False), ("final", True)):
        names = [process.name for process in task.processes if process.final is final]
        if names:
            yield f"  {title}: {_count(len(names), 'process', 'processes')}"
            yield from (f"    {line}" for line in tree(graph, names, label))


def marks_of(process: task_pb2.Process) -> Iterator[str]:
    """What of a process is not as usual, in a few words each."""
    if process.daemon:
        yield "daemon"
    if process.ephemeral:
        yield "ephemeral"
    if process.max_failures != 1:
        yield f"up to {process.max_failures} failed runs" if process.max_failures else "any number of failed runs"
    if process.HasField("min_duration"):
        yield f"{process.min_duration} s between runs"
    logger = process.logger
    if logger.destination != "file":
        yield f"logs to {logger.destination}"
    if logger.mode == "rotate":
        yield f"logs rotate at {logger.rotate.log_size} bytes, {logger.rotate.backups} kept"


def as_object(file: str, examined: Examined) -> dict[str, Any]:
    """The same for programs. No command lines: they may hold secrets."""
    said: dict[str, Any] = {
        "file": file,
        "valid": examined.loaded is not None,
        "form": examined.form or None,
        "wrapping": list(examined.wrapping),
        "violations": list(examined.violations),
        "warnings": list(examined.warnings),
    }
    loaded = examined.loaded
    if loaded is None:
        return said
    task = loaded.task.task
    graph = Graph.of(task)
    lifecycle = loaded.lifecycle
    return said | {
        "name": loaded.name,
        "user": loaded.user or None,
        "ports": dict(examined.ports),
        **checks.as_objects(examined),
        "lifecycle": None if lifecycle is None else [{"path": path, "wait": wait} for path, wait in lifecycle.steps],
        "limits": {name: getattr(task, name) for name in ("max_failures", "max_concurrency", "finalization_wait")},
        "plan": [_process(process, graph.predecessors[process.name]) for process in task.processes],
    }


def _process(process: task_pb2.Process, after: Sequence[str]) -> dict[str, Any]:
    names = ("name", "daemon", "ephemeral", "final", "max_failures", "min_duration")
    return {name: getattr(process, name) for name in names} | {"after": list(after)}
