"""JSON text into Python values, with the tolerance and the complaints of the reader in Mesos (Mesos: JSON dialect).

Bytes that are not UTF-8 become surrogate escapes, which cannot come from anywhere else: escapes of lone surrogates are
refused.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NoReturn

# Texts that the fast reader does not take are refused when deeper; Mesos' own reader has no bound but its stack.
MAX_DEPTH = 200
_BLANK = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[-+.0-9eE]+")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{0,4}")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_WORDS = {"n": ("null", None), "t": ("true", True), "f": ("false", False)}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_INT64 = range(-(2**63), 2**63)


class JsonError(Exception):
    """Not JSON; the text of the error is Mesos'."""


def parse(body: bytes) -> Any:
    """The value that the text stands for.

    Raises:
        JsonError: Not JSON, or more than one value.
    """
    text = body.decode(errors="surrogateescape")
    try:
        value, end = _fast(text)
    except (ValueError, RecursionError):
        # The slow reader knows what Mesos takes all the same, and where exactly Mesos stumbles.
        value, end = _Reader(text).read()
    if text[end:].strip(" \t\r\n"):
        rest = text[end:].rstrip(" \t\r\n")
        raise JsonError(f"Parsed JSON included non-whitespace trailing characters: {rest}")
    return value


def _fast(text: str) -> tuple[Any, int]:
    if _SURROGATE_ESCAPE.search(text):
        raise ValueError("perhaps a lone surrogate")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end = _DECODER.raw_decode(text, start)
    if text[end:].strip(" \t\r\n"):
        raise ValueError("something follows, or a number that Mesos reads further")
    return value, end


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("not a number that fits")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


class _Reader:
    """Reads character by character; where it stops is part of the error's text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> tuple[Any, int]:
        return self._value(0), self._at

    def _fail(self, at: int | None = None) -> NoReturn:
        position = self._at if at is None else at
        line = self._text.count("\n", 0, position) + 1
        rest = self._text[position:].split("\n", 1)[0]
        near = "".join(character for character in rest if character >= " ")
        raise JsonError(f"syntax error at line {line} near: {near}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _expect(self, character: str) -> bool:
        self._blank()
        found = self._peek() == character
        self._at += found
        return found

    def _demand(self, character: str) -> None:
        if not self._expect(character):
            self._fail()

    def _value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise JsonError(f"nested deeper than {MAX_DEPTH} levels")
        self._blank()
        start = self._peek()
        if start == '"':
            self._at += 1
            return self._string()
        if start == "[":
            return self._array(depth)
        if start == "{":
            return self._object(depth)
        if start and start in "-0123456789":
            return self._number()
        return self._word()

    def _word(self) -> Any:
        word = _WORDS.get(self._peek())
        if word is None:
            self._fail()
        name, value = word
        self._literally(name)
        return value

    def _literally(self, text: str) -> None:
        for character in text:
            if self._peek() != character:
                self._fail()
            self._at += 1

    def _array(self, depth: int) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        if self._expect("]"):
            return items
        items.append(self._value(depth + 1))
        while self._expect(","):
            items.append(self._value(depth + 1))
        self._demand("]")
        return items

    def _object(self, depth: int) -> dict[str, Any]:
        self._at += 1
        members: dict[str, Any] = {}
        if self._expect("}"):
            return members
        while True:
            self._demand('"')
            name = self._string()
            self._demand(":")
            members[name] = self._value(depth + 1)
            if not self._expect(","):
                break
        self._demand("}")
        return members

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._at)
        text = match[0] if match else ""
        self._at += len(text)
        if _INTEGER.fullmatch(text) and int(text) in _INT64:
            return int(text)
        try:
            return _finite(text)
        except ValueError:
            self._fail()

    def _string(self) -> str:
        pieces: list[str] = []
        while True:
            match = _PLAIN.match(self._text, self._at)
            pieces.append(match[0] if match else "")
            self._at += len(pieces[-1])
            stop = self._peek()
            if stop == '"':
                self._at += 1
                return "".join(pieces)
            if stop != "\\":
                self._fail()
            self._at += 1
            pieces.append(self._escape())

    def _escape(self) -> str:
        kind = self._peek()
        self._at += len(kind)
        if kind == "u":
            return self._code_point()
        if kind not in _ESCAPES:
            self._fail()
        return _ESCAPES[kind]

    def _code_point(self) -> str:
        first = self._hexadecimal()
        if not 0xD800 <= first <= 0xDFFF:
            return chr(first)
        if first >= 0xDC00:
            self._fail()
        self._literally("\\u")
        second = self._hexadecimal()
        if not 0xDC00 <= second <= 0xDFFF:
            self._fail()
        return chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))

    def _hexadecimal(self) -> int:
        match = _HEX.match(self._text, self._at)
        digits = match[0] if match else ""
        self._at += len(digits)
        if len(digits) < 4:
            self._fail()
        return int(digits, 16)
