"""What is valid and may surprise: warnings, never violations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from services.common.task.findings import Findings, at, quoted
from services.common.task.lifecycle import SHARE

if TYPE_CHECKING:
    from trivet.task.v1 import task_pb2

# Aurora: what a role, an environment and a job may be called.
_IDENTIFIER = re.compile(r"[\w\-.]+", re.ASCII)


def advise(task: task_pb2.Task, prefix: str, findings: Findings, *, job: bool, submitted: bool) -> None:
    """Warns of what the task's author may not have meant.

    Args:
        task: valid or not.
        prefix: path of the Thermos part.
        findings: takes the warnings.
        job: it is a job or an instance of one, not a task alone.
        submitted: it came from Aurora's scheduler, where an announcer is part of the executor.
    """
    thermos = task.task
    processes = at(prefix, "processes")
    regular = [process for process in thermos.processes if not process.final]
    if thermos.processes and not any(not process.ephemeral for process in regular):
        kind = "is ephemeral" if regular else "is final"
        findings.warning(processes, f"every process {kind}: there is nothing that the task would wait for")
    if thermos.finalization_wait == 0 and len(regular) < len(thermos.processes):
        findings.warning(at(prefix, "finalization_wait"), "0 leaves no time for the final processes: they are skipped")
    for index, process in enumerate(thermos.processes):
        if process.daemon and process.min_duration == 0:
            place = at(processes, index, "min_duration")
            findings.warning(place, "0 starts the daemon again without a pause, however quickly it ends")
    missing = [name for name in ("role", "cluster", "environment") if job and not task.HasField(name)]
    if missing:
        findings.warning(", ".join(missing), "not given, as Aurora always does")
    if submitted and task.HasField("announce"):
        findings.warning("announce", "the task is not announced, only the names of its ports are used")


def advise_lifecycle(config: task_pb2.HttpLifecycleConfig, grace: float, place: str, findings: Findings) -> None:
    """Warns of waits that are cut.

    Args:
        config: the endpoints that are asked.
        grace: seconds that the end of the task may take.
        place: what says so in the user's document.
        findings: takes the warning.
    """
    waits = config.graceful_shutdown_wait_secs + config.shutdown_wait_secs
    if waits > SHARE * grace:
        text = f"waits of {waits:g} s are cut to {SHARE * grace:g} s: {place} is {grace:g} s, half of it is for SIGTERM"
        findings.warning("lifecycle.http", text)


def advise_client(task: task_pb2.Task, prefix: str, findings: Findings) -> None:
    """Warns of what Aurora's client would refuse to submit (Aurora: client validation)."""
    resources = at(prefix, "resources")
    if not task.task.HasField("resources"):
        findings.warning(resources, "Aurora's client wants cpu, ram and disk")
    else:
        for name in ("cpu", "ram", "disk"):
            if not getattr(task.task.resources, name):
                findings.warning(at(resources, name), "Aurora's client wants more than 0")
    for name in ("role", "environment", "name"):
        value = getattr(task, name)
        if task.HasField(name) and not _IDENTIFIER.fullmatch(value):
            findings.warning(name, f"Aurora's client wants letters, digits, dots, - and _ alone, not {quoted(value)}")
    for name in sorted(task.announce.portmap):
        if task.announce.portmap[name].isdecimal():
            findings.warning(at("announce.portmap", name), "Aurora's client wants a number only in dedicated jobs")
