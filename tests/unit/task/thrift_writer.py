"""Writes thrift's binary form from plain values, so that tests can say anything, also what no generated code would."""

from __future__ import annotations

from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

Value = tuple[int, Any]


def text(value: str | bytes) -> Value:
    return TType.STRING, value


def i32(value: int) -> Value:
    return TType.I32, value


def i64(value: int) -> Value:
    return TType.I64, value


def double(value: float) -> Value:
    return TType.DOUBLE, value


def boolean(value: bool) -> Value:
    return TType.BOOL, value


def struct(fields: dict[int, Value]) -> Value:
    return TType.STRUCT, fields


def many(kind: int, of: int, values: list[Any]) -> Value:
    """A list or a set; `of` is the type of its values."""
    return kind, (of, values)


def pairs(key: int, value: int, entries: list[tuple[Any, Any]]) -> Value:
    return TType.MAP, (key, value, entries)


def encode(fields: dict[int, Value]) -> bytes:
    """One struct."""
    transport = TMemoryBuffer()
    _write(TBinaryProtocol(transport), TType.STRUCT, fields)
    data: bytes = transport.getvalue()
    return data


def _write(out: Any, kind: int, value: Any) -> None:
    match kind:
        case TType.STRUCT:
            for number, (inner, member) in value.items():
                out.writeFieldBegin("", inner, number)
                _write(out, inner, member)
            out.writeFieldStop()
        case TType.MAP:
            key, item, entries = value
            out.writeMapBegin(key, item, len(entries))
            for first, second in entries:
                _write(out, key, first)
                _write(out, item, second)
        case TType.LIST | TType.SET:
            inner, values = value
            out.writeListBegin(inner, len(values))
            for member in values:
                _write(out, inner, member)
        case TType.STRING:
            out.writeBinary(value if isinstance(value, bytes) else value.encode())
        case TType.BOOL:
            out.writeBool(value)
        case TType.I32:
            out.writeI32(value)
        case TType.I64:
            out.writeI64(value)
        case TType.DOUBLE:
            out.writeDouble(value)
        case _:
            raise AssertionError(f"no type {kind}")
