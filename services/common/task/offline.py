"""A task looked at without an agent: valid or not, and what only the agent will know."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf import json_format

from mesos.v1 import mesos_pb2
from services.common.task.advice import advise_client
from services.common.task.assigned import is_thrift
from services.common.task.aurora_health import HEALTH_PORT, port_of
from services.common.task.checks import CommandTarget, Source
from services.common.task.findings import Findings, InvalidTask
from services.common.task.forms import Form
from services.common.task.lifecycle import config_of
from services.common.task.load import LoadedTask, complete, read_data
from services.common.task.ports import follow_all, port_map, referenced_ports
from services.common.task.schema import Object, decode
from services.common.task.templates import port_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.common.task.forms import Document

# Stands for a number that is not known; any number that a port may have.
_SOME_PORT = 1
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Examined:
    """What can be said of a task before it has an agent."""

    form: str
    """`task`, `job` or `instance`; empty when it is none of them."""
    wrapping: tuple[str, ...] = ()
    """What was around it: `TaskInfo`, `AssignedTask`."""
    violations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    loaded: LoadedTask | None = None
    """The task; None when it is invalid. What only the agent knows has a stand-in: see `ports`."""
    ports: Mapping[str, int | None] = field(default_factory=dict)
    """All named ports; None: the agent says which number."""
    health_by_port: bool = False
    """There is Aurora's health check, instead of Mesos', if the agent assigns a port named `health`."""
    health_port: str = ""
    """Name of the health check's port where the agent says which number; the one in `loaded` is a stand-in."""
    lifecycle_by_port: str = ""
    """Name of the port with which there would be lifecycle endpoints."""


def examine(data: bytes, ports: Mapping[str, int], *, aurora: bool = False) -> Examined:
    """Reads and checks a task in any form, or a TaskInfo in Mesos' JSON around one. Raises nothing.

    Args:
        data: the file.
        ports: numbers of named ports; they win over those in a TaskInfo.
        aurora: warn of what Aurora's client would refuse, too.
    """
    findings = Findings()
    wrapping: list[str] = []
    form = ""
    try:
        info = _task_info(data)
        if info is None:
            info = mesos_pb2.TaskInfo(data=data)
        else:
            wrapping.append("TaskInfo")
        document = read_data(info, findings)
        form = document.form.value
        if document.assigned is not None:
            wrapping.append("AssignedTask")
        return _examine(document, info, ports, findings, tuple(wrapping), aurora=aurora)
    except InvalidTask as invalid:
        return Examined(form, tuple(wrapping), tuple(invalid.violations), findings.warnings)


def _examine(
    document: Document,
    info: mesos_pb2.TaskInfo,
    given: Mapping[str, int],
    findings: Findings,
    wrapping: tuple[str, ...],
    *,
    aurora: bool,
) -> Examined:
    task = document.task
    aliases = port_map(task.announce) if task.HasField("announce") else {}
    unknown, numbered = _add_ports(document, info, given, aliases)
    if not info.task_id.value:
        info.task_id.value = document.assigned.task_id if document.assigned else _UNKNOWN
    if not info.executor.command.user:
        info.executor.command.user = _UNKNOWN
    if document.form is Form.JOB and not task.HasField("instance"):
        task.instance = 0
    if aurora and document.form is Form.JOB:
        advise_client(task, document.prefix, findings)
    health_port = port_of(task) or HEALTH_PORT
    health_port = next(port_names(health_port), health_port)
    loaded = complete(document, info, _UNKNOWN, findings)
    ends = follow_all({name: target for name, target in aliases.items() if name not in numbered})
    known = {name: None if (ends.get(name) or name) in unknown else port for name, port in loaded.ports.items()}
    config = config_of(task, by_default=document.form is Form.JOB)
    health = loaded.health
    auroras = health is not None and health.source is Source.AURORA
    probes_port = health is not None and auroras and not isinstance(health.target, CommandTarget)
    return Examined(
        form=document.form.value,
        wrapping=wrapping,
        warnings=loaded.warnings,
        loaded=loaded,
        ports=known,
        health_by_port=not auroras and document.form is not Form.TASK and HEALTH_PORT not in known,
        health_port=health_port if probes_port and known.get(health_port, 0) is None else "",
        lifecycle_by_port=config.port if config is not None and loaded.lifecycle is None else "",
    )


def _add_ports(
    document: Document, info: mesos_pb2.TaskInfo, given: Mapping[str, int], aliases: Mapping[str, str]
) -> tuple[set[str], set[str]]:
    """Puts the given ports into the TaskInfo, and stand-ins for those that are not known.

    Returns:
        Names with a stand-in, and names with a number of their own.
    """
    others = [port for port in info.discovery.ports.ports if port.name not in given]
    del info.discovery.ports.ports[:]
    info.discovery.ports.ports.extend(others)
    for name, number in given.items():
        info.discovery.ports.ports.add(name=name, number=number)
    numbered = {port.name for port in info.discovery.ports.ports}
    if document.assigned is not None:
        numbered |= document.assigned.ports.keys()
    wanted = referenced_ports(document.task) | _targets(aliases)
    # An alias that is still wanted is part of a circle: it is told as a violation.
    unknown = wanted - numbered - aliases.keys()
    for name in sorted(unknown):
        info.discovery.ports.ports.add(name=name, number=_SOME_PORT)
    return unknown, numbered


def _targets(aliases: Mapping[str, str]) -> set[str]:
    return {end for end in follow_all(aliases).values() if end is not None and not end.isdecimal()}


def _task_info(data: bytes) -> mesos_pb2.TaskInfo | None:
    """A TaskInfo in Mesos' JSON; None when it is something else.

    Raises:
        InvalidTask: it looks like one, and is not.
    """
    if is_thrift(data):
        return None
    try:
        value = decode(data)
    except InvalidTask:
        return None  # whoever reads it as a task says what is wrong
    if not isinstance(value, Object) or value.has("task") or value.has("processes"):
        return None
    if not any(value.has(name) for name in ("task_id", "taskId", "executor")):
        return None
    try:
        info: mesos_pb2.TaskInfo = json_format.Parse(data, mesos_pb2.TaskInfo(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidTask([f"TaskInfo: {json.dumps(str(error))[1:-1][:300]}"]) from None
    return info
