"""The forms in which a task's data may come.

| form | recognised by | what it is |
|---|---|---|
| instance | `task` and `instance` | Aurora's MesosTaskInstance |
| job | `task` | Aurora's MesosJob |
| task | `processes` | a Thermos task alone; `health_check_config` and `announce` may stand beside its fields |

Binary thrift (Aurora's AssignedTask around a job) gets its row here: it is told from JSON by its first byte, which is
never `{` or white space.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.common.task.findings import Findings, InvalidTask
from services.common.task.rules import check
from services.common.task.schema import Object, decode, read_message
from trivet.task.v1 import task_pb2

# Fields of a job that a task without a job may have as well; none is a field of the Thermos task.
_BESIDE = frozenset({"health_check_config", "announce"})


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

    @property
    def aurora(self) -> bool:
        """The data is Aurora's."""
        return self.form is not Form.TASK


def read(data: bytes | str, findings: Findings) -> Document:
    """Reads a document of any form; what does not fit the contract is recorded in `findings`.

    Raises:
        InvalidTask: it is no document at all, or of no known form.
    """
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
    """Reads a task and checks every rule that needs no ports and no variables. Templates stay as they are.

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
