"""Messages as JSON in Mesos' own dialect, which is not protobuf's (Mesos: JSON dialect).

Names as in the .proto, fields in declaration order, 64-bit integers as numbers, doubles always with a fraction, bytes
in standard base64; optional fields with an explicit default are printed even when unset, unless they are deprecated.
Text that is not UTF-8 goes out as it came in. NaN, at which Mesos' agent aborts, is the string "NaN".
"""

from __future__ import annotations

import base64
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from services.local_agent.wire.declaration_order import fields

if TYPE_CHECKING:
    from google.protobuf.message import Message

_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {chr(code): f"\\u{code:04X}" for code in range(0x20)} | {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_NOT_FINITE = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
# Powers of ten between which doubles are printed without exponent.
_PLAIN_FROM, _PLAIN_TO = -6, 21


def encode(message: Message) -> bytes:
    """One line of JSON without spaces."""
    return _message(message).encode(errors="surrogateescape")


def string(value: str | bytes) -> str:
    """A JSON string. Bytes: text of a message that is not UTF-8."""
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
    return f'"{_TO_ESCAPE.sub(_escape, text)}"'


def number(value: float) -> str:
    """A double: the shortest digits that stand for it, with a fraction or an exponent."""
    text = repr(value)
    if "e" not in text and "n" not in text:
        return text
    if not math.isfinite(value):
        return _NOT_FINITE[text]
    sign, digits, exponent = Decimal(text).as_tuple()
    shown = "".join(map(str, digits)).rstrip("0")
    # The decimal point stands behind so many digits.
    point = len(digits) + int(exponent)
    if len(shown) <= point <= _PLAIN_TO:
        body = shown.ljust(point, "0") + ".0"
    elif _PLAIN_FROM < point <= 0:
        body = "0." + "0" * -point + shown
    else:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        body = f"{shown[0]}{fraction}e{point - 1}"
    return "-" + body if sign else body


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def _message(message: Message) -> str:
    parts: list[str] = []
    for field in fields(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if value:
                entry = field.message_type.fields_by_name["value"]
                members = ",".join(f"{string(str(key))}:{_value(entry, value[key])}" for key in sorted(value))
                parts.append(f'"{field.name}":{{{members}}}')
        elif field.is_repeated:
            if value:
                parts.append(f'"{field.name}":[{",".join(_value(field, item) for item in value)}]')
        elif message.HasField(field.name) or (field.has_default_value and not field.GetOptions().deprecated):
            parts.append(f'"{field.name}":{_value(field, value)}')
    return f"{{{','.join(parts)}}}"


def _value(field: Any, value: Any) -> str:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return _message(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return f'"{base64.b64encode(value).decode()}"'
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return string(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return f'"{field.enum_type.values_by_number[value].name}"'
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true" if value else "false"
    return number(value) if field.cpp_type in _FLOATS else str(value)
