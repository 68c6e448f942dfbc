"""Messages as JSON in Mesos' own dialect, which is not protobuf's (Mesos: JSON dialect).

Names as in the .proto, fields in declaration order, 64-bit integers as numbers, doubles always with a fraction, bytes
in standard base64; optional fields with an explicit default are printed even when unset, unless they are deprecated.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from services.local_agent.wire.declaration_order import fields

if TYPE_CHECKING:
    from google.protobuf.message import Message

_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def encode(message: Message) -> bytes:
    """One line of JSON without spaces."""
    return json.dumps(to_json(message), ensure_ascii=False, separators=(",", ":")).encode()


def to_json(message: Message) -> dict[str, Any]:
    """The message as a JSON object."""
    result: dict[str, Any] = {}
    for field in fields(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if value:
                entry = field.message_type.fields_by_name["value"]
                result[field.name] = {str(key): _value(entry, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            if value:
                result[field.name] = [_value(field, item) for item in value]
        elif message.HasField(field.name) or (field.has_default_value and not field.GetOptions().deprecated):
            result[field.name] = _value(field, value)
    return result


def _value(field: Any, value: Any) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return to_json(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return field.enum_type.values_by_number[value].name
    if field.cpp_type in _FLOATS:
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return float(value)
    return value
