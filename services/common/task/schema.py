"""JSON into protobuf messages, driven by their descriptors, as forgiving as Thermos was and no more.

Numbers and booleans may be written as strings, null means unset, unknown fields are listed as warnings (old executors
refused new fields: Aurora had to roll out clients and executors in step).
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from services.common.task.findings import Findings, InvalidTask, at

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_BYTES = 19 << 20
"""Longest data of a task: with everything around it, it still fits into one message of 20 MiB."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUE = ("true", "1")
_FALSE = ("false", "0")
_INT_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
}
# Set from another field's null, never by the user.
_DERIVED = {"initial_interval_null"}
# Texts that may be written as whole numbers.
_NUMBERS_TOO = frozenset(
    [
        "trivet.task.v1.HttpHealthChecker.port",
        "trivet.task.v1.HttpHealthChecker.expected_response_codes",
        "trivet.task.v1.TcpHealthChecker.port",
    ]
)
# Aurora's fields that are for its scheduler, its client or its announcer: known, and nothing that an executor acts on.
_ELSEWHERE = {
    "trivet.task.v1.Task": frozenset(
        [
            "constraints",
            "contact",
            "container",
            "cron_collision_policy",
            "cron_schedule",
            "enable_hooks",
            "executor_config",
            "instances",
            "max_task_failures",
            "metadata",
            "partition_policy",
            "priority",
            "production",
            "service",
            "sla_policy",
            "task_links",
            "tier",
            "update_config",
        ]
    ),
    "trivet.task.v1.Announcer": frozenset(["zk_path"]),
}


class Object:
    """A JSON object with its members in order, repeated names included."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs

    def has(self, name: str) -> bool:
        """Whether a member has this name and is not null."""
        return any(key == name and value is not None for key, value in self.pairs)

    def split(self, names: frozenset[str]) -> tuple[Object, Object]:
        """Members with one of these names, and the others."""
        return (
            Object([pair for pair in self.pairs if pair[0] in names]),
            Object([pair for pair in self.pairs if pair[0] not in names]),
        )


class _Wrong(Exception):
    """A value that does not fit its field; the text says what is wanted."""


def decode(data: bytes | str) -> Any:
    """Reads a JSON document into lists, scalars and `Object`s.

    Raises:
        InvalidTask: it is not UTF-8, not JSON or nested too deeply.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise InvalidTask([f"the task is not UTF-8: byte {error.start}"]) from None
    if not text.strip():
        raise InvalidTask(["the task is empty"])
    try:
        return json.loads(text, object_pairs_hook=Object, parse_int=_parse_int, parse_constant=_parse_constant)
    except RecursionError:
        raise InvalidTask(["the task is nested too deeply"]) from None
    except json.JSONDecodeError as error:
        raise InvalidTask([f"the task is not JSON: line {error.lineno} column {error.colno}: {error.msg}"]) from None


def _parse_int(digits: str) -> int | float:
    # int() of a very long literal is quadratic and refused by Python itself; as a float it is out of any range.
    return int(digits) if len(digits) <= 40 else math.inf


def _parse_constant(_name: str) -> float:
    return math.nan


def read_message(message: Message, value: Any, path: str, findings: Findings) -> None:
    """Fills `message` from a decoded JSON value; what does not fit is left unset and recorded at its path."""
    if not isinstance(value, Object):
        findings.violation(path, f"must be an object, not {_kind(value)}")
        return
    fields = message.DESCRIPTOR.fields_by_name
    elsewhere = _ELSEWHERE.get(message.DESCRIPTOR.full_name, frozenset())
    seen = set()
    for key, member in value.pairs:
        place = at(path, key)
        if key in seen:
            findings.violation(place, "is given twice")
            continue
        seen.add(key)
        field = fields.get(key)
        if field is None or key in _DERIVED:
            if key not in elsewhere:
                findings.warning(place, "unknown field, ignored")
        elif member is None:
            _read_null(message, field)
        else:
            _read_field(message, field, member, place, findings)


def _read_null(message: Message, field: Any) -> None:
    # Aurora: an initial interval of None means two intervals, an absent one means 15 s.
    if field.name == "initial_interval_secs":
        message.initial_interval_null = True  # type: ignore[attr-defined]


def _read_field(message: Message, field: Any, value: Any, path: str, findings: Findings) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _read_map(getattr(message, field.name), value, path, findings)
    elif field.is_repeated:
        _read_list(getattr(message, field.name), field, value, path, findings)
    elif field.message_type is not None:
        part: Message = getattr(message, field.name)
        part.SetInParent()
        read_message(part, value, path, findings)
    else:
        try:
            setattr(message, field.name, _scalar(field, value))
        except _Wrong as wrong:
            findings.violation(path, str(wrong))


def _read_list(target: Any, field: FieldDescriptor, value: Any, path: str, findings: Findings) -> None:
    if not isinstance(value, list):
        findings.violation(path, f"must be a list, not {_kind(value)}")
        return
    for index, member in enumerate(value):
        place = at(path, index)
        if field.message_type is not None:
            read_message(target.add(), member, place, findings)
            continue
        try:
            target.append(_scalar(field, member))
        except _Wrong as wrong:
            findings.violation(place, str(wrong))


def _read_map(target: Any, value: Any, path: str, findings: Findings) -> None:
    """Reads a map<string, string>; whole numbers are accepted as values (a port map may hold either)."""
    if not isinstance(value, Object):
        findings.violation(path, f"must be an object, not {_kind(value)}")
        return
    for key, member in value.pairs:
        place = at(path, key)
        number = isinstance(member, int) and not isinstance(member, bool)
        try:
            if _text(key) in target:
                findings.violation(place, "is given twice")
            elif member is not None:
                target[key] = str(member) if number else _text(member)
        except _Wrong as wrong:
            findings.violation(place, str(wrong))


def _scalar(field: FieldDescriptor, value: Any) -> bool | int | float | str:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            number = isinstance(value, int) and not isinstance(value, bool)
            return str(value) if number and field.full_name in _NUMBERS_TOO else _text(value)
        case FieldDescriptor.CPPTYPE_BOOL:
            return _boolean(value)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return _number(value)
        case kind:
            return _whole(value, *_INT_RANGES[kind])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"must be a string, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("must be valid Unicode: it has half of a surrogate pair") from None
    return value


def _boolean(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _Wrong(f"must be true or false, not {_kind(value)}")


def _number(value: Any) -> float:
    if isinstance(value, str) and len(value) <= 400 and _DECIMAL.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"must be a number, not {_kind(value)}")
    if not math.isfinite(value):
        raise _Wrong("must be a finite number")
    return float(value)


def _whole(value: Any, least: int, most: int) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"must be a whole number, not {_kind(value)}")
    if not math.isfinite(value) or not least <= value <= most:
        raise _Wrong(f"must be a whole number from {least} to {most}")
    if value != int(value):
        raise _Wrong("must be a whole number, without a fraction")
    return int(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
