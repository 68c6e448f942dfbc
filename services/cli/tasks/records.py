"""Records of the services' journals in words.

Fields are read from the record itself: a journal of a newer version shows what it has, and no service has to be loaded.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from mesos.v1 import mesos_pb2
from services.cli.tasks.texts import cause_name, moment, phase_name, state_name
from trivet.link.v1 import link_pb2
from trivet.reporter.v1 import reporter_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Fields of the reporter's records, by kind: its records are lists.
_REPORTER = {
    "opened": ("framework_id", "executor_id", "incarnation", "task_id", "launch", "epoch", "accepted", "gated"),
    "proposed": ("n", "at", "status"),
    "answered": ("n", "uuid", "rejection", "wall"),
    "acknowledged": ("n", "uuid", "wall"),
    "latched": ("latch", "wall"),
    "noted": ("at", "source", "source_at", "kind", "n", "uuid", "minor", "message"),
    "forgotten": ("dropped",),
    "closed": ("at", "state", "verdict"),
}
# Hexadecimal digits of a SHA-256.
_HASH = 64
_Record = dict[str, Any]
# Of what a check probes with: their values are for nobody, in no form.
_HIDDEN = frozenset({"headers", "env"})


class Unreadable(Exception):
    """A payload is no record of any service."""


def fields_of(payload: bytes) -> _Record:
    """The record as an object; `is` says of which kind it is. Values of a check's headers and environment are hidden.

    Raises:
        Unreadable: it is no record.
    """
    try:
        record = json.loads(payload)
        if isinstance(record, dict) and "check" in (record.get("is"), record.get("kind")):
            record = _without_values(record)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not a record: {error}") from None
    if isinstance(record, dict):
        kind = record.pop("is", None) or record.pop("kind", None)
        if isinstance(kind, str):
            return {"is": kind, **record}
        if kind is None and record and all(isinstance(value, str) and len(value) == _HASH for value in record.values()):
            # Of tokens.journal. The hashes say nothing to anybody.
            return {"is": "tokens", "executors": list(record)}
    if isinstance(record, list) and record and isinstance(record[0], str):
        names = _REPORTER.get(record[0], ())
        rest = record[1:]
        named = dict(zip(names, rest, strict=False))
        more = {"more": rest[len(names) :]} if len(rest) > len(names) else {}
        return {"is": record[0], **named, **more}
    raise Unreadable("not a record: neither an object with its kind nor a list that begins with it")


def _without_values(value: Any) -> Any:
    match value:
        case dict():
            return {name: _masked(of) if name in _HIDDEN else _without_values(of) for name, of in value.items()}
        case list():
            return [_without_values(each) for each in value]
    return value


def _masked(value: Any) -> Any:
    # What is not of the known form may tell a secret wherever it is.
    return dict.fromkeys(value, "***") if isinstance(value, dict) else "***"


def described(record: Mapping[str, Any]) -> str:
    """The record on one line; fields whose form is not the known one are shown as they stand."""
    fields = dict(record)
    kind = fields.pop("is")
    words = [_when(kind, fields), kind]
    # The header's, which is long, in its usual form.
    key = fields.pop("key", None)
    if isinstance(key, list) and len(key) == 5:
        fields = {"task_id": key[3], "launch": key[4], "executor_id": key[1], "framework_id": key[0], **fields}
    elif key is not None:
        fields["key"] = key
    message = fields.pop("message", None) or fields.pop("error", None)
    words += [f"{name}={_value(kind, name, value)}" for name, value in fields.items()]
    return " ".join(words) + (f": {message}" if message else "")


def _when(kind: str, fields: _Record) -> str:
    """The wall clock of a record, taken out of its fields; blanks: it has none."""
    at: Any = fields.get("launched_at")
    if kind in ("closed", "noted") and _is_number(fields.get("at")):
        at = fields.pop("at")
    elif _is_number(fields.get("wall")):
        at = fields.pop("wall")
    elif isinstance(fields.get("at"), list) and len(fields["at"]) == 2:
        at = fields.pop("at")[1]
    return moment(at) if at and _is_number(at) else " " * 23


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(kind: str, name: str, value: Any) -> str:
    shown = _SHOWN.get((kind, name)) or _SHOWN.get(("", name))
    if shown is not None:
        try:
            return shown(value)
        except (TypeError, ValueError, KeyError, AttributeError, DecodeError):
            # Not of the known form: as it stands.
            pass
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _info(value: Any) -> str:
    data = _bytes(value)
    name = mesos_pb2.TaskInfo.FromString(data).name
    return f"(TaskInfo {json.dumps(name, ensure_ascii=False)}, {len(data)} bytes)"


def _response(value: Any) -> str:
    whole = runner_pb2.GetTaskResponse.FromString(_bytes(value))
    runs = ", ".join(f"{run.process}/{run.run} {state_name(run.state)}" for run in whole.runs[:20])
    more = f", and {len(whole.runs) - 20} more" if len(whole.runs) > 20 else ""
    return f"({phase_name(whole.task.state.phase)}; {runs}{more})"


def _status(value: Any) -> str:
    status = mesos_pb2.TaskStatus.FromString(_bytes(value))
    words = [mesos_pb2.TaskState.Name(status.state)]
    if status.HasField("reason"):
        words.append(mesos_pb2.TaskStatus.Reason.Name(status.reason))
    if status.HasField("healthy"):
        words.append("healthy" if status.healthy else "unhealthy")
    if status.HasField("message"):
        words.append(json.dumps(status.message, ensure_ascii=False))
    return f"({' '.join(words)})"


def _latch(value: Any) -> str:
    latch = link_pb2.Latch.FromString(_bytes(value))
    origin = link_pb2.LatchOrigin.Name(latch.origin).removeprefix("LATCH_ORIGIN_")
    acknowledged = ", acknowledged" if latch.acknowledged else ""
    return f"({mesos_pb2.TaskState.Name(mesos_pb2.TaskState.ValueType(latch.state))} of {origin}{acknowledged})"


def _state(value: Any) -> str:
    state = link_pb2.TaskState.FromString(_bytes(value))
    return f"({phase_name(state.phase)} {cause_name(state.end_cause)})"


def _verdict(value: Any) -> str:
    verdict = link_pb2.Verdict.FromString(_bytes(value))
    healthy = ("healthy" if verdict.healthy else "unhealthy") if verdict.HasField("healthy") else "no opinion"
    return f"({healthy}{', dead' if verdict.dead else ''})"


def _spec(value: Any) -> str:
    # Without what is probed: commands, headers and environments may hold secrets.
    return "none" if value is None else f"(rule {value['rule']})"


def _specs(value: Any) -> str:
    try:
        return ", ".join(f"({spec['kind']}: {spec['target']['type']}, rule {spec['rule']})" for spec in value) or "none"
    except (TypeError, KeyError):
        # As it stands it may tell a secret.
        return "(of a form that is not known here)"


def _states(value: Any) -> str:
    return "[" + ", ".join(mesos_pb2.TaskState.Name(state) for state in value) + "]"


def _rejection(value: Any) -> str:
    return reporter_pb2.Rejection.Name(value).removeprefix("REJECTION_") if value else "none"


def _source(value: Any) -> str:
    return reporter_pb2.Source.Name(value).removeprefix("SOURCE_")


def _trace_kind(value: Any) -> str:
    return reporter_pb2.TraceKind.Name(value).removeprefix("TRACE_KIND_")


def _uuid(value: Any) -> str:
    return _bytes(value).hex() or "none"


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


# (kind, field) -> its words; kind "": in any.
_SHOWN: dict[tuple[str, str], Callable[[Any], str]] = {
    ("task", "info"): _info,
    ("task", "launched_at"): moment,
    ("summary", "launched_at"): moment,
    ("summary", "ended_at"): moment,
    ("summary", "response"): _response,
    ("run", "state"): state_name,
    ("phase", "phase"): phase_name,
    ("end", "cause"): cause_name,
    ("end", "verdict"): phase_name,
    ("check", "spec"): _spec,
    ("check", "specs"): _specs,
    ("opened", "accepted"): _states,
    ("proposed", "status"): _status,
    ("latched", "latch"): _latch,
    ("closed", "state"): _state,
    ("closed", "verdict"): _verdict,
    ("answered", "rejection"): _rejection,
    ("noted", "source"): _source,
    ("noted", "source_at"): moment,
    ("noted", "kind"): _trace_kind,
    ("", "uuid"): _uuid,
}
