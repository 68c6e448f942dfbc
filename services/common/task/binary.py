"""Thrift's binary protocol, read from memory and from strangers: by field ids, tolerant, bounded."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TProtocol import TProtocolException
from thrift.Thrift import TException, TType
from thrift.transport.TTransport import TFileObjectTransport

from services.common.task.findings import Findings, InvalidTask, at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_DEPTH = 32
"""Levels of structs and containers inside each other; an AssignedTask has five."""

MAX_VALUES = 200_000
"""Values that are looked at one by one; an AssignedTask has some hundreds."""

# Thrift: TType.UUID, which older libraries do not name.
_UUID = 16
_WIDTHS = {
    TType.BOOL: 1,
    TType.BYTE: 1,
    TType.I16: 2,
    TType.I32: 4,
    TType.I64: 8,
    TType.DOUBLE: 8,
    _UUID: 16,
}
_NAMES = {
    TType.BOOL: "bool",
    TType.BYTE: "byte",
    TType.I16: "i16",
    TType.I32: "i32",
    TType.I64: "i64",
    TType.DOUBLE: "double",
    TType.STRING: "string",
    TType.STRUCT: "struct",
    TType.MAP: "map",
    TType.SET: "set",
    TType.LIST: "list",
    _UUID: "uuid",
}

Struct = dict[str, Any]
"""Fields that were there and fit, by name."""


class Reader(TBinaryProtocol):  # type: ignore[misc, unused-ignore]
    """Reads the fields that a schema names and skips all others.

    Every length is held against the bytes that there are, every value against `MAX_VALUES`: hostile data costs no more
    than an honest document of the same size.
    """

    def __init__(self, data: bytes) -> None:
        # A value takes a byte at least, so a longer container is a lie.
        self._file = io.BytesIO(data)
        self._size = len(data)
        super().__init__(
            TFileObjectTransport(self._file), string_length_limit=len(data), container_length_limit=len(data)
        )
        self._left = MAX_VALUES

    def rest(self) -> int:
        """Number of bytes that were not read."""
        return self._size - self._file.tell()

    def count(self, max_depth: int) -> None:
        """Counts one value.

        Raises:
            TProtocolException: there are too many, or they are nested too deeply.
        """
        self._left -= 1
        if self._left < 0:
            raise TProtocolException(TProtocolException.SIZE_LIMIT, f"more than {MAX_VALUES} values")
        if max_depth <= 0:
            raise TProtocolException(TProtocolException.DEPTH_LIMIT, f"nested deeper than {MAX_DEPTH} levels")

    def skip(self, ttype: int, max_depth: int = MAX_DEPTH) -> None:
        """Passes over a value of any type. Sets need not be of hashable values: nothing is kept."""
        self.count(max_depth)
        if ttype in _WIDTHS:
            self.trans.readAll(_WIDTHS[ttype])
        elif ttype == TType.STRING:
            self.readBinary()
        elif ttype == TType.STRUCT:
            while True:
                _, kind, _ = self.readFieldBegin()
                if kind == TType.STOP:
                    return
                self.skip(kind, max_depth - 1)
        elif ttype == TType.MAP:
            key, value, size = self.readMapBegin()
            self._skip_all((key, value), size, max_depth - 1)
        elif ttype in (TType.SET, TType.LIST):
            kind, size = self.readListBegin()
            self._skip_all((kind,), size, max_depth - 1)
        else:
            raise TProtocolException(TProtocolException.INVALID_DATA, f"no type has the number {ttype}")

    def _skip_all(self, kinds: tuple[int, ...], size: int, max_depth: int) -> None:
        if all(kind in _WIDTHS for kind in kinds):
            self.trans.readAll(size * sum(_WIDTHS[kind] for kind in kinds))
            return
        for _ in range(size):
            for kind in kinds:
                self.skip(kind, max_depth)


class Field:
    """How one field is read: its name, the type that it must have on the wire, and what makes its value."""

    def __init__(self, name: str, ttype: int, read: Callable[[Reader, str, Findings, int], Any]) -> None:
        self.name = name
        self.ttype = ttype
        self.read = read


Schema = dict[int, Field]
"""Fields by their ids."""


def text(name: str) -> Field:
    """A string, in UTF-8; None when it is not."""

    def read(reader: Reader, path: str, findings: Findings, _depth: int) -> str | None:
        return _text(reader.readBinary(), path, findings)

    return Field(name, TType.STRING, read)


def number(name: str) -> Field:
    """An i32."""
    return Field(name, TType.I32, lambda reader, _path, _findings, _depth: reader.readI32())


def struct(name: str, schema: Schema) -> Field:
    """A struct of which the fields in `schema` matter."""
    return Field(
        name, TType.STRUCT, lambda reader, path, findings, depth: _read_struct(reader, schema, path, findings, depth)
    )


def numbers_by_name(name: str) -> Field:
    """A map<string, i32>."""
    return Field(name, TType.MAP, _read_numbers)


def read_struct(data: bytes, schema: Mapping[int, Field], path: str, findings: Findings) -> Struct:
    """Reads one struct; what does not fit the schema is recorded at its path below `path`.

    Raises:
        InvalidTask: the data is cut off, or no thrift binary struct.
    """
    reader = Reader(data)
    try:
        values = _read_struct(reader, schema, path, findings, MAX_DEPTH)
        rest = reader.rest()
    except EOFError:
        raise InvalidTask([f"{path}: is cut off: it ends inside a value"]) from None
    except TException as error:
        raise InvalidTask([f"{path}: is not thrift's binary form: {error}"]) from None
    if rest:
        findings.warning(path, f"{rest} bytes behind it, ignored")
    return values


def _read_struct(reader: Reader, schema: Mapping[int, Field], path: str, findings: Findings, depth: int) -> Struct:
    reader.count(depth)
    values: Struct = {}
    while True:
        _, kind, number_ = reader.readFieldBegin()
        if kind == TType.STOP:
            return values
        field = schema.get(number_)
        if field is None:
            reader.skip(kind, depth - 1)
            continue
        place = at(path, field.name)
        if kind != field.ttype:
            findings.violation(place, f"must be of type {_NAMES[field.ttype]}, not {_NAMES.get(kind, 'unknown')}")
            reader.skip(kind, depth - 1)
            continue
        value = field.read(reader, place, findings, depth - 1)
        if field.name in values:
            findings.violation(place, "is given twice")
        elif value is not None:
            values[field.name] = value


def _read_numbers(reader: Reader, path: str, findings: Findings, depth: int) -> dict[str, int]:
    key_kind, value_kind, size = reader.readMapBegin()
    numbers: dict[str, int] = {}
    if size and (key_kind, value_kind) != (TType.STRING, TType.I32):
        findings.violation(path, "must be a map of string to i32")
        for _ in range(size):
            reader.skip(key_kind, depth)
            reader.skip(value_kind, depth)
        return numbers
    for _ in range(size):
        reader.count(depth)
        key = _text(reader.readBinary(), path, findings)
        value = reader.readI32()
        if key is not None and numbers.setdefault(key, value) != value:
            findings.violation(at(path, key), "is given twice")
    return numbers


def _text(data: bytes, path: str, findings: Findings) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        findings.violation(path, f"is not UTF-8: byte {error.start}")
        return None
