"""JSON as Mesos reads it: what Python's own reader takes and refuses otherwise, and where exactly an error is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.local_agent.wire import json_text
from services.local_agent.wire.json_text import JsonError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=20,
)
WORDS = ["null", "true", "fals", "-", "1", "0", "1e", ".5", "NaN", "é", "k"]
PIECES = st.sampled_from([*'{}[]",:\\ \n\t', "\\u", "\\ud83d", "\\ude00", "\\n", *WORDS])


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_both_readers_understand_what_a_writer_writes(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert json_text.parse(text.encode()) == value
    assert json_text._Reader(text).read() == (value, len(text))


@given(st.lists(PIECES, max_size=14).map("".join))
@example("[" * 5000)
@example('{"a":' * 300 + "\\")
def test_readers_agree_on_any_text_that_looks_like_json(text: str) -> None:
    try:
        slow = json_text._Reader(text).read()
    except JsonError:
        slow = None
    try:
        fast = json_text._fast(text)
    except (ValueError, RecursionError):
        return
    assert slow == fast


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(body: bytes) -> None:
    try:
        json_text.parse(body)
    except JsonError:
        return


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("", ""),
        ("{'a':1}", "'a':1}"),
        ('{"a" 1}', "1}"),
        ('{"a":1,}', "}"),
        ("[1 2]", "2]"),
        ("[1,\n2,\nx", None),
        ("nul", ""),
        ("nuxl", "xl"),
        ("yes", "yes"),
        ("NaN", "NaN"),
        ("-Infinity", "Infinity"),
        ("1e", ""),
        ("[1e999]", "]"),
        ("+1", "+1"),
        ("[--1,2]", ",2]"),
        ('"\\x41"', '41"'),
        ('"\\u12g4"', 'g4"'),
        ('"a\tb"', 'b"'),
        ('"open', ""),
        ('"\\ud800"', '"'),
        ('"\\ud800\\n"', 'n"'),
        ('"\\ud800\\u0041"', '"'),
        ('"\\udc00\\ud800"', '\\ud800"'),
        ("\ufeff{}", "\ufeff{}"),
    ],
)
def test_error_names_line_and_rest_of_the_line(text: str, near: str | None) -> None:
    with pytest.raises(JsonError) as refused:
        json_text.parse(text.encode())
    line = 1 if near is not None else 3
    assert str(refused.value) == f"syntax error at line {line} near: {'x' if near is None else near}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("007", 7),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("1" + "0" * 30, 1e30),
        ("9" * 5000 + "e-4990", 1e10),
        ('"\\ud83d\\ude00\\/"', "\U0001f600/"),
        ('{"a":1,"a":[2]}', {"a": [2]}),
        (" \r\n\t[ ]\n", []),
    ],
)
def test_what_the_reader_in_mesos_takes_is_taken(text: str, value: object) -> None:
    parsed = json_text.parse(text.encode())
    assert parsed == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize("tail", ["x", "{}", "\x0b", "\x00", "\u00a0"])
def test_what_follows_the_value_is_named(tail: str) -> None:
    with pytest.raises(JsonError) as refused:
        json_text.parse(f"[1]\n{tail} \n".encode())
    assert str(refused.value) == f"Parsed JSON included non-whitespace trailing characters: \n{tail}"


def test_bytes_that_are_not_utf8_are_kept() -> None:
    value = json_text.parse(b'["a\xffb", "\xed\xa0\x80"]')
    assert [item.encode(errors="surrogateescape") for item in value] == [b"a\xffb", b"\xed\xa0\x80"]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'["\\ud800x"' + b"," + b"[" * 5000])
def test_nesting_is_an_error_and_no_crash(body: bytes) -> None:
    with pytest.raises(JsonError):
        json_text.parse(body)
