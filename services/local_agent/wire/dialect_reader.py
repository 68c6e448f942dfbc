"""JSON in Mesos' dialect into messages, with the errors that Mesos' agent gives (Mesos: JSON dialect).

Text that is not UTF-8 is kept as it is: protobuf hands it out as bytes. Other than Mesos, numbers that do not fit are
refused (there they wrap), and so are messages nested deeper than protobuf can read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor

from services.local_agent.wire import base64_text, json_text

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
_INFINITIES = {"Infinity": float("inf"), "-Infinity": float("-inf")}
# Of messages within messages. Protobuf's readers stop at 100; what is stored of a call is no deeper than the call.
MAX_NESTING = 90


class DialectError(Exception):
    """The text is not what Mesos accepts; the text of the error is Mesos'."""


def decode(message_type: type[M], body: bytes) -> M:
    """One message.

    Raises:
        DialectError: Not JSON, not an object, a value of the wrong kind, or a required field is missing.
    """
    try:
        value = json_text.parse(body)
    except json_text.JsonError as error:
        raise DialectError(f"Failed to parse body into JSON: {error}") from error
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


def _fill(message: Message, value: dict[str, Any], depth: int = 1) -> None:
    if depth > MAX_NESTING:
        raise DialectError(f"Messages are nested deeper than {MAX_NESTING} levels")
    by_name: Any = message.DESCRIPTOR.fields_by_name
    # In the order of the names: of two mistakes Mesos finds the first of them.
    for name in sorted(value):
        field = by_name.get(name)
        # Unknown fields are ignored.
        if field is not None:
            _put(message, field, value[name], depth)


def _put(message: Message, field: Any, item: Any, depth: int) -> None:
    """A value into a field. A repeated field takes a single value too, as in Mesos; null means unset."""
    if item is None:
        return
    if isinstance(item, list):
        if not field.is_repeated:
            raise _unexpected(field, item)
        for element in item:
            _put(message, field, element, depth)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _put_map(message, field, item, depth)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        members = _object(field, item)
        child = getattr(message, field.name)
        if field.is_repeated:
            child = child.add()
        child.SetInParent()
        _fill(child, members, depth + 1)
    else:
        scalar = _scalar(field, item)
        if isinstance(scalar, str) and not scalar.isascii():
            _put_text(message, field, scalar.encode(errors="surrogateescape"))
        elif scalar is not None and field.is_repeated:
            getattr(message, field.name).append(scalar)
        elif scalar is not None:
            setattr(message, field.name, scalar)


def _put_text(message: Message, field: Any, text: bytes) -> None:
    """Through the wire format, where text may be any bytes; Python's setters refuse what is not UTF-8."""
    message.MergeFromString(_varint(field.number << 3 | 2) + _varint(len(text)) + text)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _put_map(message: Message, field: Any, item: Any, depth: int) -> None:
    entry = field.message_type.fields_by_name["value"]
    target = getattr(message, field.name)
    for key, element in _object(field, item).items():
        name = key.encode(errors="surrogateescape").decode(errors="replace")
        if entry.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            target[name].SetInParent()
            if element is not None:
                _fill(target[name], _object(entry, element), depth + 2)
        elif element is not None:
            target[name] = _scalar(entry, element)


def _object(field: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(field, value)
    return value


def _unexpected(field: Any, value: Any) -> DialectError:
    return DialectError(f"Not expecting a JSON {kind(value)} for field '{field.name}'")


def _scalar(field: Any, value: Any) -> Any:
    """The Python value to set; None: leave the field unset."""
    if isinstance(value, dict | list):
        raise _unexpected(field, value)
    if isinstance(value, str):
        return _from_string(field, value)
    if isinstance(value, bool):
        if field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
            raise _unexpected(field, value)
        return value
    if field.cpp_type in _FLOATS:
        return float(value)
    if field.cpp_type in _INTEGERS:
        return _integer(field, value)
    raise _unexpected(field, value)


def _from_string(field: Any, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        try:
            return base64_text.decode(value)
        except ValueError as error:
            raise DialectError(f"Failed to base64 decode bytes field '{field.name}': {error}") from error
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        known = field.enum_type.values_by_name.get(value)
        if known is None and field.is_required:
            raise DialectError(f"Failed to find enum for '{value}'")
        return None if known is None else known.number
    if field.cpp_type in _FLOATS and value in _INFINITIES:
        return _INFINITIES[value]
    wanted = "boolean" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "number"
    parsed = _parsed(field, value, wanted)
    if kind(parsed) != wanted:
        raise DialectError(
            f"Failed to parse '{value}' as a JSON {wanted} for field '{field.name}': Unexpected JSON type parsed"
        )
    return _scalar(field, parsed)


def _parsed(field: Any, value: str, wanted: str) -> Any:
    try:
        return json_text.parse(value.encode(errors="surrogateescape"))
    except json_text.JsonError as error:
        raise DialectError(f"Failed to parse '{value}' as a JSON {wanted} for field '{field.name}': {error}") from error


def _integer(field: Any, value: float) -> int:
    low, high = _INTEGERS[field.cpp_type]
    number = int(value)
    if not low <= number <= high:
        raise DialectError(f"Failed to convert '{value}' for field '{field.name}': out of range")
    return number


def kind(value: Any) -> str:
    """What Mesos calls a JSON value of this kind."""
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "number", float: "number"}
    return names.get(type(value), "null")
