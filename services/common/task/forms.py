"""The forms in which a task's data may come.

| form | recognised by | what it is |
|---|---|---|
| instance | `task` and `instance` | Aurora's MesosTaskInstance |
| job | `task` | Aurora's MesosJob |
| task | `processes` | a Thermos task alone, with `health_check_config`, `announce`, `lifecycle` beside its fields |

Each of them may come as JSON, or as the JSON inside an AssignedTask in thrift's binary form. What the AssignedTask says
of the instance and the job key takes the place of what the JSON says.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.common.task.assigned import DATA, Assigned, differs, is_thrift, read_assigned
from services.common.task.findings import Findings, InvalidTask
from services.common.task.rules import check
from services.common.task.schema import MAX_BYTES, Object, decode, read_message
from trivet.task.v1 import task_pb2

# Fields of a job that a task without a job may have as well; none is a field of the Thermos task.
_BESIDE = frozenset({"health_check_config", "announce", "lifecycle"})


class Form(enum.Enum):
    """What the data was."""

    TASK = "task"
    JOB = "job"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Document:
    """A task as it was written; `prefix` is the path of the Thermos task in the user's document."""

    task: task_pb2.Task
    form: Form
    prefix: str
    assigned: Assigned | None = None
    """What the scheduler put around it, None when it came as JSON."""

    @property
    def aurora(self) -> bool:
        """The data is Aurora's."""
        return self.form is not Form.TASK or self.assigned is not None


def read(data: bytes | str, findings: Findings) -> Document:
    """Reads a document of any form; what does not fit the contract is recorded in `findings`.

    Raises:
        InvalidTask: it is no document at all, or of no known form.
    """
    if len(data) > MAX_BYTES:
        raise InvalidTask([f"the task has {len(data)} bytes, at most {MAX_BYTES} are accepted"])
    if isinstance(data, str) or not is_thrift(data):
        return _read_json(data, findings)
    assigned = read_assigned(data, findings)
    try:
        document = _read_json(assigned.data, findings)
    except InvalidTask as invalid:
        raise InvalidTask([f"{DATA}: {text}" for text in invalid.violations], aurora=True) from None
    _overlay(document.task, assigned, findings)
    return Document(document.task, document.form, document.prefix, assigned)


def _overlay(task: task_pb2.Task, assigned: Assigned, findings: Findings) -> None:
    if assigned.instance is not None:
        if task.HasField("instance"):
            differs(findings, "instanceId", assigned.instance, task.instance)
        task.instance = assigned.instance
    for name in ("role", "environment", "name"):
        said = getattr(assigned, name)
        if not said:
            continue
        if task.HasField(name):
            differs(findings, f"task.job.{name}", said, getattr(task, name))
        setattr(task, name, said)


def _read_json(data: bytes | str, findings: Findings) -> Document:
    value = decode(data)
    if not isinstance(value, Object):
        raise InvalidTask(["the task must be a JSON object"])
    task = task_pb2.Task()
    if value.has("task"):
        read_message(task, value, "", findings)
        return Document(task, Form.INSTANCE if value.has("instance") else Form.JOB, "task")
    if not value.has("processes"):
        raise InvalidTask(["the task must have `processes` (a task) or `task` (a job)"])
    beside, thermos = value.split(_BESIDE)
    read_message(task.task, thermos, "", findings)
    read_message(task, beside, "", findings)
    return Document(task, Form.TASK, "")


def parse_json(data: bytes | str) -> tuple[task_pb2.Task, tuple[str, ...]]:
    """Reads a task of any form and checks every rule that needs no ports and no variables. Templates stay as they are.

    Returns:
        The task, and warnings for people.

    Raises:
        InvalidTask: with all violations.
    """
    findings = Findings()
    document = read(data, findings)
    check(document.task, document.prefix, findings)
    if findings.violations:
        raise InvalidTask(findings.violations, document.aurora)
    return document.task, findings.warnings
