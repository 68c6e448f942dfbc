"""Named ports: the announcer's port map, overlaid with the assigned ports, aliases followed (Aurora: ports)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from services.common.task.aurora_health import port_of
from services.common.task.findings import Findings, at, quoted
from services.common.task.templates import port_names, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesos.v1 import mesos_pb2
    from trivet.task.v1 import task_pb2

_NUMBER = re.compile(r"[0-9]{1,9}")
_MAX_PORT = 65535


def assigned_ports(
    info: mesos_pb2.TaskInfo, findings: Findings, aurora: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Ports that the framework assigned: named ones in `TaskInfo.discovery.ports`, and over them an AssignedTask's."""
    ports: dict[str, int] = {}
    for index, port in enumerate(info.discovery.ports.ports):
        place = f"discovery.ports.ports[{index}]"
        if not port.name:
            continue
        if not 1 <= port.number <= _MAX_PORT:
            findings.violation(f"{place}.number", f"must be from 1 to {_MAX_PORT}, is {port.number}")
        elif ports.setdefault(port.name, port.number) != port.number:
            findings.violation(f"{place}.name", f"{quoted(port.name)} has another number already")
    for name in sorted(aurora or ()):
        number = (aurora or {})[name]
        place = at("AssignedTask.assignedPorts", name)
        if not 1 <= number <= _MAX_PORT:
            findings.violation(place, f"must be from 1 to {_MAX_PORT}, is {number}")
            continue
        if ports.get(name, number) != number:
            findings.warning(place, f"replaces {ports[name]}")
        ports[name] = number
    return ports


def port_map(announce: task_pb2.Announcer) -> dict[str, str]:
    """The announcer's own names; without any, `aurora` stands for the primary port (Aurora: Announcer.portmap)."""
    entries = dict(announce.portmap) or {"aurora": announce.primary_port}
    # A protobuf map has no order of its own; sorted, the same task gives the same findings each time.
    return {name: entries[name].replace("{{primary_port}}", announce.primary_port) for name in sorted(entries)}


def resolve_ports(task: task_pb2.Task, assigned: Mapping[str, int], findings: Findings) -> dict[str, int]:
    """All named ports of a task. Names that lead to no number are dropped with a warning, circles are violations."""
    entries: dict[str, str] = port_map(task.announce) if task.HasField("announce") else {}
    entries.update((name, str(number)) for name, number in assigned.items())
    ports: dict[str, int] = {}
    for name, end in follow_all(entries).items():
        place = at("announce.portmap", name)
        if end is None:
            findings.violation(place, "port names form a circle")
        elif not _NUMBER.fullmatch(end):
            findings.warning(place, f"no port is assigned to {quoted(end)}, the name is not used")
        elif not 1 <= int(end) <= _MAX_PORT:
            findings.violation(place, f"must be a port from 1 to {_MAX_PORT} or another name, is {end}")
        else:
            ports[name] = int(end)
    return ports


def follow_all(aliases: Mapping[str, str]) -> dict[str, str | None]:
    """Where each name leads: to a number, to a name that leads nowhere, or in a circle (None). Linear."""
    ends: dict[str, str | None] = {}
    for name in aliases:
        trail: dict[str, None] = {}
        target = name
        while target in aliases and target not in ends and target not in trail:
            trail[target] = None
            target = aliases[target]
            if _NUMBER.fullmatch(target):
                break  # as a target it is a number, even if a name looks the same
        else:
            ends.update(dict.fromkeys(trail, None if target in trail else ends.get(target, target)))
            continue
        ends.update(dict.fromkeys(trail, target))
    return ends


def referenced_ports(task: task_pb2.Task) -> set[str]:
    """Ports that somebody has to assign before the task can start.

    Those that its templates need (aliases of the announcer's port map followed), that of the health check that the task
    brings (Aurora's HTTP check: `health`), and that of the lifecycle endpoints that it brings.
    """
    aliases = port_map(task.announce) if task.HasField("announce") else {}
    parts = (task.task, task.health_check_config, task.lifecycle)
    templates = (text for part in parts for *_, text in texts(part, ""))
    wanted = {name for text in templates for name in port_names(text)}
    if (health := port_of(task)) and "{{" not in health:
        wanted.add(health)
    if task.HasField("lifecycle") and task.lifecycle.HasField("http"):
        wanted.add(task.lifecycle.http.port)
    ends = follow_all(aliases)
    # A circle is told as a violation when the task is loaded; until then its name stands for itself.
    targets = ((ends[name] or name) if name in ends else name for name in wanted)
    return {target for target in targets if not _NUMBER.fullmatch(target)}
