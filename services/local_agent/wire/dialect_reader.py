"""JSON in Mesos' dialect into messages, with the errors that Mesos' agent gives (Mesos: JSON dialect).

Other than Mesos, bytes that are not UTF-8 become U+FFFD: messages here cannot hold them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
# A high surrogate without a low one, or a low one alone; an escaped backslash before `u` is not an escape.
_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)


class DialectError(Exception):
    """The text is not what Mesos accepts; the text of the error is Mesos'."""


def decode(message_type: type[M], body: bytes) -> M:
    """One message.

    Raises:
        DialectError: Not JSON, not an object, a value of the wrong kind, or a required field is missing.
    """
    value = _parse(body)
    if not isinstance(value, dict):
        raise DialectError("Failed to convert JSON into Call protobuf: Expecting a JSON object")
    message = message_type()
    try:
        _fill(message, value)
    except DialectError as error:
        raise DialectError(f"Failed to convert JSON into Call protobuf: {error}") from error
    missing = ", ".join(_uninitialised(message))
    if missing:
        raise DialectError(f"Failed to convert JSON into Call protobuf: Missing required fields: {missing}")
    return message


def _uninitialised(message: Any) -> list[str]:
    paths: list[str] = message.FindInitializationErrors()
    return paths


def _parse(body: bytes) -> Any:
    text = body.decode(errors="replace")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = decoder.raw_decode(text, start)
    except (json.JSONDecodeError, RecursionError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        if text[:1] == "\ufeff":
            position = 0
        raise _syntax_error(text, position) from error
    surrogate = _LONE_SURROGATE.search(text)
    if surrogate:
        raise _syntax_error(text, surrogate.end())
    if text[end:].strip(" \t\r\n"):
        raise DialectError(
            f"Failed to parse body into JSON: Parsed JSON included non-whitespace trailing characters: {text[end:]}"
        )
    return value


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _syntax_error(text: str, position: int) -> DialectError:
    line = text.count("\n", 0, position) + 1
    rest = text[position:].split("\n", 1)[0]
    return DialectError(f"Failed to parse body into JSON: syntax error at line {line} near: {rest}")


def _fill(message: Message, value: dict[str, Any]) -> None:
    by_name: Any = message.DESCRIPTOR.fields_by_name
    for name, item in value.items():
        field = by_name.get(name)
        # Unknown fields are ignored and null means unset, as in Mesos.
        if field is None or item is None:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(message, field, item)
        elif field.is_repeated:
            if not isinstance(item, list):
                raise DialectError(f"Not expecting a JSON {_kind(item)} for field '{name}'")
            for element in item:
                _add(message, field, element)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            child = getattr(message, name)
            child.SetInParent()
            _fill(child, _object(field, item))
        else:
            scalar = _scalar(field, item)
            if scalar is not None:
                setattr(message, name, scalar)


def _fill_map(message: Message, field: Any, item: Any) -> None:
    entry = field.message_type.fields_by_name["value"]
    target = getattr(message, field.name)
    for key, element in _object(field, item).items():
        if entry.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            target[key].SetInParent()
            _fill(target[key], _object(entry, element))
        else:
            target[key] = _scalar(entry, element)


def _add(message: Message, field: Any, element: Any) -> None:
    target = getattr(message, field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        _fill(target.add(), _object(field, element))
        return
    scalar = _scalar(field, element)
    if scalar is not None:
        target.append(scalar)


def _object(field: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DialectError(f"Not expecting a JSON {_kind(value)} for field '{field.name}'")
    return value


def _scalar(field: Any, value: Any) -> Any:
    """The Python value to set; None: leave the field unset."""
    refused = DialectError(f"Not expecting a JSON {_kind(value)} for field '{field.name}'")
    if isinstance(value, dict | list):
        raise refused
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        if not isinstance(value, str):
            raise refused
        known = field.enum_type.values_by_name.get(value)
        if known is not None:
            return known.number
        if field.is_required:
            raise DialectError(f"Failed to find enum for '{value}'")
        return None
    if field.type == FieldDescriptor.TYPE_BYTES:
        if not isinstance(value, str):
            raise refused
        return _bytes(field, value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if not isinstance(value, str):
            raise refused
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if isinstance(value, str) and value in {"true", "false"}:
            return value == "true"
        if not isinstance(value, bool):
            raise refused
        return value
    if isinstance(value, bool):
        raise refused
    return _number(field, value)


def _number(field: Any, value: Any) -> int | float:
    try:
        if field.cpp_type in _FLOATS:
            return float(value)
        number = int(value) if not isinstance(value, str) or value.lstrip("-").isdigit() else int(float(value))
    except (ValueError, OverflowError) as error:
        raise DialectError(f"Failed to parse '{value}' as a JSON number for field '{field.name}'") from error
    low, high = _INTEGERS[field.cpp_type]
    if not low <= number <= high:
        raise DialectError(f"Failed to convert '{value}' for field '{field.name}': out of range")
    return number


def _bytes(field: Any, text: str) -> bytes:
    bad = _NOT_BASE64.search(text)
    if bad is not None:
        raise DialectError(f"Failed to base64 decode bytes field '{field.name}': Invalid character '{bad[0]}'")
    stripped = text.rstrip("=")
    try:
        # Mesos does not insist on padding.
        return base64.b64decode(stripped + "=" * (-len(stripped) % 4))
    except binascii.Error as error:
        raise DialectError(f"Failed to base64 decode bytes field '{field.name}': {error}") from error


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "number", float: "number"}
    return names.get(type(value), "null")
