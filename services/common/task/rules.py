"""The rules that a task must keep before anything of it is started (Thermos: rejection rules).

Beyond Thermos' own: what would hang it or be found only at fork - names that are no file names, negative limits,
command lines that the kernel refuses.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

from services.common.task.aurora_health import check_health
from services.common.task.findings import Findings, at, quoted
from services.common.task.graph import Graph
from services.common.task.values import check_command, check_endpoint, not_negative, one_of, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trivet.task.v1 import task_pb2

MAX_NAME_BYTES = 255
"""A process name is the name of a directory: NAME_MAX."""

DESTINATIONS = ("file", "console", "both", "none")
MODES = ("standard", "rotate")

_USER = re.compile(r"[^\s:/\0]{1,255}")


def check(task: task_pb2.Task, prefix: str, findings: Findings) -> None:
    """Checks a whole task; `prefix` is the path of its Thermos part in the user's document."""
    _check_thermos(task.task, prefix, findings)
    if task.HasField("health_check_config"):
        check_health(task.health_check_config, "health_check_config", findings)
    if task.lifecycle.HasField("http"):
        _check_lifecycle(task.lifecycle.http, "lifecycle.http", findings)
    if task.HasField("role") and task.role and not _USER.fullmatch(task.role):
        findings.violation("role", f"{quoted(task.role)} is not the name of a user")
    if task.instance < 0:
        findings.violation("instance", f"must not be negative, is {task.instance}")


def _check_thermos(task: task_pb2.ThermosTask, path: str, findings: Findings) -> None:
    processes = at(path, "processes")
    if not task.processes and not findings.violated(path):
        findings.violation(processes, "must not be empty")
    for index, process in enumerate(task.processes):
        _check_process(process, at(processes, index), findings)
    _check_duplicates(task, processes, findings)
    _check_constraints(task, at(path, "constraints"), findings)
    not_negative(task, ("max_failures", "max_concurrency"), path, findings)
    seconds(task, ("finalization_wait",), path, findings)
    if task.HasField("resources"):
        _check_resources(task.resources, at(path, "resources"), findings)
    if task.user and not _USER.fullmatch(task.user):
        findings.violation(at(path, "user"), f"{quoted(task.user)} is not the name of a user")


def _check_process(process: task_pb2.Process, path: str, findings: Findings) -> None:
    if findings.violated(path):
        return
    wrong = _name_fault(process)
    if wrong:
        findings.violation(at(path, "name"), wrong)
    check_command(process.cmdline if process.HasField("cmdline") else None, at(path, "cmdline"), findings)
    not_negative(process, ("max_failures",), path, findings)
    seconds(process, ("min_duration",), path, findings)
    if process.HasField("logger"):
        _check_logger(process.logger, at(path, "logger"), findings)
    if process.HasField("resources"):
        _check_resources(process.resources, at(path, "resources"), findings)


def _name_fault(process: task_pb2.Process) -> str:
    name = process.name
    if not process.HasField("name"):
        return "is required"
    if not name:
        return "must not be empty"
    if name.startswith("."):
        return "must not start with a dot"
    if "/" in name or "\0" in name:
        return "must not contain a slash or NUL: it names a directory"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"must not be longer than {MAX_NAME_BYTES} bytes: it names a directory"
    return ""


def _check_logger(logger: task_pb2.Logger, path: str, findings: Findings) -> None:
    one_of(logger.destination, DESTINATIONS, at(path, "destination"), findings)
    one_of(logger.mode, MODES, at(path, "mode"), findings)
    if logger.rotate.log_size < 1:
        findings.violation(at(path, "rotate", "log_size"), f"must be at least 1 byte, is {logger.rotate.log_size}")
    if logger.rotate.backups < 1:
        findings.violation(at(path, "rotate", "backups"), f"must be at least 1, is {logger.rotate.backups}")


def _check_resources(resources: task_pb2.Resources, path: str, findings: Findings) -> None:
    # Thermos: whoever says something of resources says all three; none at all are allowed.
    for name in ("cpu", "ram", "disk"):
        if not resources.HasField(name):
            findings.violation(at(path, name), "is required")
    not_negative(resources, ("cpu", "ram", "disk", "gpu"), path, findings)


def _check_duplicates(task: task_pb2.ThermosTask, path: str, findings: Findings) -> None:
    counts = Counter(process.name for process in task.processes if process.name)
    seen: set[str] = set()
    for index, process in enumerate(task.processes):
        if counts[process.name] > 1 and process.name in seen:
            findings.violation(at(path, index, "name"), f"another process is called {quoted(process.name)}")
        seen.add(process.name)


def _check_constraints(task: task_pb2.ThermosTask, path: str, findings: Findings) -> None:
    by_name = {process.name: process for process in task.processes}
    complete = all(process.name for process in task.processes)
    for index, constraint in enumerate(task.constraints):
        place = at(path, index, "order")
        if not constraint.order:
            # An unreadable order was left empty; its own violation stands already at or below this place.
            findings.violation(place, "must not be empty")
            continue
        unknown = dict.fromkeys(name for name in constraint.order if name not in by_name)
        # If a process has no name, the unknown one may be the one that could not be read.
        faults = [f"no process is called {quoted(name)}" for name in unknown] if complete else []
        # As ordered sets: the same pair may stand in an order many times.
        findings.violation(place, *dict.fromkeys([*faults, *_order_faults(constraint.order, by_name)]))
    findings.violation(path, *map(_circle, Graph.of(task).find_cycles()))


def _circle(cycle: Sequence[str]) -> str:
    shown = [quoted(name) for name in cycle[:10]] + (["..."] if len(cycle) > 10 else []) + [quoted(cycle[0])]
    return "processes wait for each other: " + " -> ".join(shown)


def _order_faults(names: Sequence[str], by_name: Mapping[str, task_pb2.Process]) -> Iterator[str]:
    order = [by_name.get(name) for name in names]
    known = [process for process in order if process is not None]
    if len({process.final for process in known}) > 1:
        final = next(process.name for process in known if process.final)
        yield f"mixes the final process {quoted(final)} with others that are not final"
    for first, second in itertools.pairwise(order):
        if first is None or second is None:
            continue
        who = f"{quoted(second.name)} waits for "
        if first.daemon:
            yield f"{who}the daemon {quoted(first.name)}, which never ends"
        elif first.ephemeral and not second.ephemeral:
            yield f"{who}the ephemeral process {quoted(first.name)}, but is not ephemeral itself"


def _check_lifecycle(config: task_pb2.HttpLifecycleConfig, path: str, findings: Findings) -> None:
    if not config.port:
        findings.violation(at(path, "port"), "must not be empty")
    for name in ("graceful_shutdown_endpoint", "shutdown_endpoint"):
        check_endpoint(getattr(config, name), at(path, name), findings)
    seconds(config, ("graceful_shutdown_wait_secs", "shutdown_wait_secs"), path, findings)
