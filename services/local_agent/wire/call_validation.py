"""A call's way from bytes to something the agent follows; texts and order are Mesos' (Mesos: status codes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.wire import dialect_reader

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
PROTOBUF = "application/x-protobuf"

_Call = executor_pb2.Call
_CHECK_BODIES = {
    mesos_pb2.CheckInfo.COMMAND: ("command", "COMMAND"),
    mesos_pb2.CheckInfo.HTTP: ("http", "HTTP"),
    mesos_pb2.CheckInfo.TCP: ("tcp", "TCP"),
}


class Refused(Exception):
    """The call gets an error response."""

    def __init__(self, status: int, body: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(body)
        self.status = status
        self.body = body
        self.headers = headers


def require_post(method: str) -> None:
    """Nothing but POST leads anywhere.

    Raises:
        Refused: 405.
    """
    if method != "POST":
        text = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
        raise Refused(405, text, (("Allow", "POST"),))


def decode(content_type: str | None, body: bytes) -> executor_pb2.Call:
    """The call in a request's body.

    Raises:
        Refused: 400 or 415.
    """
    if content_type is None:
        raise Refused(400, "Expecting 'Content-Type' to be present")
    if content_type == PROTOBUF:
        call = _Call()
        try:
            call.ParseFromString(body)
        except DecodeError as error:
            raise Refused(400, "Failed to parse body into Call protobuf") from error
        if not call.IsInitialized():
            raise Refused(400, "Failed to parse body into Call protobuf")
        return call
    if content_type == JSON:
        try:
            return dialect_reader.decode(_Call, body)
        except dialect_reader.DialectError as error:
            raise Refused(400, str(error)) from error
    raise Refused(415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")


def validate(call: executor_pb2.Call) -> None:
    """Checks what the agent checks before it looks at its own state.

    Raises:
        Refused: 400.
    """
    problem = _problem(call)
    if problem:
        raise Refused(400, f"Failed to validate Executor::Call: {problem}")


def negotiate(accept: str | None) -> str:
    """Media type of the event stream: JSON wins whenever it is acceptable.

    Raises:
        Refused: 406.
    """
    if accept is None:
        return JSON
    offered = [part.split(";")[0].strip() for part in accept.split(",")]
    for media_type in (JSON, PROTOBUF):
        if {media_type, "*/*", "application/*"} & set(offered):
            return media_type
    raise Refused(406, f"Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'")


def is_uuid(value: bytes) -> bool:
    """16 bytes of a version from 1 to 5 (Mesos: Boost's reader knows no newer ones, and looks at nothing else)."""
    return len(value) == 16 and value[6] >> 4 in range(1, 6)


def _problem(call: executor_pb2.Call) -> str:
    if not call.HasField("type"):
        return "Expecting 'type' to be present"
    if call.type == _Call.SUBSCRIBE:
        return "" if call.HasField("subscribe") else "Expecting 'subscribe' to be present"
    if call.type == _Call.MESSAGE:
        return "" if call.HasField("message") else "Expecting 'message' to be present"
    if call.type == _Call.UPDATE:
        return _update_problem(call) if call.HasField("update") else "Expecting 'update' to be present"
    return ""


def is_text(value: object) -> bool:
    """Whether a string field holds UTF-8: protobuf hands out anything else as bytes."""
    return isinstance(value, str)


def _update_problem(call: executor_pb2.Call) -> str:
    status = call.update.status
    sender = f"executor {call.executor_id.value} of framework {call.framework_id.value}"
    rows: tuple[tuple[Callable[[], bool], str], ...] = (
        # The only rule that is not Mesos': there the task would merely be unknown.
        (lambda: not is_text(status.task_id.value), "update.status.task_id.value is not UTF-8"),
        (lambda: not status.HasField("uuid"), "Expecting 'uuid' to be present"),
        (lambda: not is_uuid(status.uuid), "Not a valid UUID"),
        (
            lambda: status.HasField("executor_id") and status.executor_id.value != call.executor_id.value,
            (
                f"ExecutorID in Call: {call.executor_id.value} does not match "
                f"ExecutorID in TaskStatus: {status.executor_id.value}"
            ),
        ),
        (
            lambda: status.source != mesos_pb2.TaskStatus.SOURCE_EXECUTOR,
            f"Received Call from {sender} with invalid source, expecting 'SOURCE_EXECUTOR'",
        ),
        (
            lambda: status.state == mesos_pb2.TASK_STAGING,
            f"Received TASK_STAGING from {sender} which is not allowed",
        ),
    )
    for holds, text in rows:
        if holds():
            return text
    return _check_status_problem(status.check_status) if status.HasField("check_status") else ""


def _check_status_problem(status: mesos_pb2.CheckStatusInfo) -> str:
    if not status.HasField("type"):
        return "CheckStatusInfo must specify 'type'"
    known = _CHECK_BODIES.get(status.type)
    if known is None:
        return "'UNKNOWN' is not a valid check's status type"
    field, name = known
    return "" if status.HasField(field) else f"Expecting '{field}' to be set for {name} check's status"
