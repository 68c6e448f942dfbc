from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator.commands import COMMANDS, CommandError, check, error_event

START: dict[str, Any] = {
    "op": "start", "task": "t", "process": "p", "run": 1, "argv": ["sh"], "env": {"A": "b"}, "cwd": "", "user": "",
    "stdout": "", "stderr": "", "profile": "", "sandbox": "/s",
    "logging": {"console": False, "limit": 10, "backups": 2},
}  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_good_start_is_converted_to_bytes() -> None:
    op, fields = check({**START, "argv": ["ä", "\udcff"], "future": "ignored"})
    assert op == "start"
    assert fields["argv"] == ["ä".encode(), b"\xff"]
    assert fields["env"] == {b"A": b"b"}
    assert (fields["logging"].console, fields["logging"].limit, fields["logging"].backups) == (False, 10, 2)
    assert "future" not in fields


@pytest.mark.parametrize("field", [name for name in START if name != "op"])
def test_missing_field_is_named(field: str) -> None:
    message = {name: value for name, value in START.items() if name != field}
    with pytest.raises(CommandError, match=rf"^start\.{field}: missing$"):
        check(message)


@pytest.mark.parametrize(
    ("op", "field", "value"),
    [
        ("terminate", "kill_at", "soon"), ("terminate", "kill_at", float("nan")), ("terminate", "kill_at", True),
        ("hard", "at", float("inf")), ("hard", "at", 10**400), ("end", "code", 256), ("end", "code", -1),
        ("probe", "timeout", None), ("probe", "sandbox", ""), ("start", "cwd", "../x"), ("start", "argv", [""]),
        ("start", "cwd", "\ud800"), ("start", "env", {"": "x"}),
        ("start", "logging", None), ("start", "logging", {}), ("start", "logging", {**START["logging"], "limit": -1}),
        ("start", "logging", {**START["logging"], "console": 1}), ("start", "logging", {"console": True, "limit": 1}),
    ],
)  # fmt: skip
def test_wrong_value_is_named(op: str, field: str, value: object) -> None:
    good = {
        **START, "kill_at": 1, "at": 1, "code": 0, "timeout": 1, "id": "i", "op": op, "below": 0,
    }  # fmt: skip
    check(good)
    with pytest.raises(CommandError, match=rf"^{op}\.{field}"):
        check({**good, field: value})


@given(st.sampled_from([*COMMANDS, "x"]), st.dictionaries(st.sampled_from([*START, "id", "at", "code"]), json_values))
def test_any_garbage_is_either_accepted_or_refused_with_a_place(op: str, fields: dict[str, Any]) -> None:
    try:
        check({**fields, "op": op})
    except CommandError as error:
        assert ":" in str(error)  # noqa: PT017 - both outcomes are fine


def test_value_of_the_environment_is_never_in_an_error() -> None:
    for env in ({"A": ["hunter2"]}, {"A": "hunter2\0"}, {"A": "hunter2\ud800"}, {"A=": "hunter2"}, "hunter2"):
        with pytest.raises(CommandError) as caught:
            check({**START, "env": env})
        assert "hunter2" not in str(caught.value)


def test_error_event_says_which_command_it_was() -> None:
    assert error_event({**START, "id": ["odd"]}, "no") == {
        "ev": "error", "op": "start", "error": "no", "task": "t", "process": "p", "run": 1,
    }  # fmt: skip
