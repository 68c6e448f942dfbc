"""First record of a task's journal: which task it is, and everything that a replay needs to know of it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from services.common.keys import Executor, TaskKey
from services.runner.plan import RUN_LIMIT
from services.runner.records import BadRecord

if TYPE_CHECKING:
    from trivet.link.v1 import link_pb2

FORMAT = 1


class AnotherFormat(BadRecord):
    """A header of another format: not damage, but only a program of that format can tell what it says."""


class Facts(NamedTuple):
    """What the driver said about itself when the task came."""

    boot_id: str
    hostname: str
    # As the processes see it, and as the host does.
    sandbox: str
    host_sandbox: str
    uid: int

    @classmethod
    def of(cls, hello: link_pb2.Hello) -> Facts:
        """The facts in a Hello."""
        return cls(hello.boot_id, hello.hostname, hello.sandbox, hello.host_sandbox, hello.uid)


class Header(NamedTuple):
    """A live task: `info` is the serialised TaskInfo, `launched_at` wall clock seconds.

    `run_limit` is the setting when the task came: a runner with another one must read the same from its records.
    """

    key: TaskKey
    info: bytes
    facts: Facts
    launched_at: float
    # State was put together again from TaskInfo and the hands' records.
    rebuilt: bool = False
    run_limit: int = RUN_LIMIT


class Summary(NamedTuple):
    """A task of which nothing is left: what `GetTask` still shows of it."""

    key: TaskKey
    boot_id: str
    launched_at: float
    # Wall clock, seconds.
    ended_at: float
    # Serialised trivet.runner.v1.GetTaskResponse.
    response: bytes


def encode(record: Header | Summary) -> bytes:
    """The journal payload."""
    fields = record._asdict()
    fields["key"] = [*record.key.executor, record.key.task_id, record.key.launch]
    if isinstance(record, Header):
        fields |= {"is": "task", "info": _text(record.info), "facts": record.facts._asdict()}
    else:
        fields |= {"is": "summary", "response": _text(record.response)}
    return json.dumps({"format": FORMAT, **fields}, separators=(",", ":")).encode()


def decode(payload: bytes) -> Header | Summary:
    """The record of a payload. Fields that a newer version has added are ignored.

    Raises:
        AnotherFormat: Names both formats.
        BadRecord: It is none.
    """
    try:
        fields: dict[str, Any] = json.loads(payload)
        if int(fields["format"]) != FORMAT:
            raise AnotherFormat(f"format {int(fields['format'])}, this version reads {FORMAT}")
        framework_id, executor_id, incarnation, task_id, launch = fields["key"]
        key = TaskKey(Executor(framework_id, executor_id, incarnation), task_id, launch)
        if fields["is"] == "summary":
            response = base64.b64decode(fields["response"], validate=True)
            return Summary(key, fields["boot_id"], fields["launched_at"], fields["ended_at"], response)
        facts = Facts(**{name: fields["facts"][name] for name in Facts._fields})
        info = base64.b64decode(fields["info"], validate=True)
        return Header(key, info, facts, fields["launched_at"], fields["rebuilt"], fields.get("run_limit", RUN_LIMIT))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"not a header: {type(error).__name__}: {error}") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
