"""Aurora's AssignedTask: what the scheduler puts around a job, in thrift's binary form (Aurora: TaskInfo.data)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.common.task.findings import InvalidTask, at, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.common.task.findings import Findings

NAME = "AssignedTask"
DATA = f"{NAME}.task.executorConfig.data"
"""Path of the job inside."""

# Types of fields that a struct may begin with (Thrift: TType).
_FIELD_TYPES = frozenset((2, 3, 4, 6, 8, 10, 11, 12, 13, 14, 15))


@dataclass(frozen=True, slots=True)
class Assigned:
    """What the scheduler says of a task. Empty, None: not said."""

    data: str
    """The job, JSON."""
    executor: str = ""
    """Name of the executor that the job asks for (`AuroraExecutor`)."""
    task_id: str = ""
    hostname: str = ""
    instance: int | None = None
    role: str = ""
    environment: str = ""
    name: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


def is_thrift(data: bytes | str) -> bool:
    """Whether data is a thrift struct rather than JSON.

    A struct begins with the type of its first field and the high byte of that field's id, which is 0. JSON has no NUL.
    """
    return isinstance(data, bytes) and (data == b"\0" or (data[1:2] == b"\0" and data[0] in _FIELD_TYPES))


def read_assigned(data: bytes, findings: Findings) -> Assigned:
    """Reads an AssignedTask; fields that an executor does not need may be missing, and others may be there.

    Raises:
        InvalidTask: it is no thrift struct, or there is no job in it.
    """
    values = _read(data, findings)
    task = _part(values, "task", NAME, findings)
    config = _part(task, "executorConfig", f"{NAME}.task", findings)
    job = config.get("data")
    if job is None:
        findings.violation(DATA, "is required: it is the job")
        raise InvalidTask(findings.violations, aurora=True)
    key: dict[str, str] = task.get("job", {})
    owner: dict[str, str] = task.get("owner", {})
    return Assigned(
        data=job,
        executor=config.get("name", ""),
        task_id=values.get("taskId", ""),
        hostname=values.get("slaveHost", ""),
        instance=values.get("instanceId"),
        # Older schedulers knew no job keys: the role was the owner's.
        role=key.get("role") or owner.get("role", ""),
        environment=key.get("environment", ""),
        name=key.get("name", ""),
        ports=values.get("assignedPorts", {}),
    )


def _part(values: Mapping[str, Any], name: str, path: str, findings: Findings) -> dict[str, Any]:
    if name not in values:
        findings.violation(at(path, name), "is required")
        raise InvalidTask(findings.violations, aurora=True)
    part: dict[str, Any] = values[name]
    return part


def _read(data: bytes, findings: Findings) -> dict[str, Any]:
    # Only those who get thrift load it.
    from services.common.task.binary import number, numbers_by_name, read_struct, struct, text

    job_key = {1: text("role"), 2: text("environment"), 3: text("name")}
    config = {1: text("name"), 2: text("data")}
    task = {17: struct("owner", {1: text("role")}), 25: struct("executorConfig", config), 28: struct("job", job_key)}
    schema = {
        1: text("taskId"),
        3: text("slaveHost"),
        4: struct("task", task),
        5: numbers_by_name("assignedPorts"),
        6: number("instanceId"),
    }
    try:
        return read_struct(data, schema, NAME, findings)
    except InvalidTask as invalid:
        raise InvalidTask([*findings.violations, *invalid.violations], aurora=True) from None


def differs(findings: Findings, name: str, said: object, before: object) -> None:
    """Warns that the scheduler's word replaces another one."""
    if said != before:
        shown = quoted(before) if isinstance(before, str) else str(before)
        findings.warning(f"{NAME}.{name}", f"replaces {shown}")
