"""Faults as short texts: `update refuse=503 times=3`, `event=ACKNOWLEDGED lose probability=0.2`, `connection refuse`.

The first word says what is struck, the second what happens to it, the rest `key=value` in any order. Words are split as
a shell splits them, so `body="try later"` is one word. Names of calls and events in any case.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from services.local_agent.core import durations
from services.local_agent.faults.validation import CONNECTION, TYPES, FaultRefused, check
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

Fault = faults_pb2.Fault
_CALLS = {name.lower(): value for name, value in TYPES["call"].items()}
_EVENTS = {name.lower(): value for name, value in TYPES["event"].items()}
# Of the same name as an event as well: as a first word they mean the call.
_SHORT = {name: value for name, value in _CALLS.items() if name != "any"}
_EFFECTS = ("refuse", "delay", "hold", "lose", "duplicate", "cut", "corrupt", "rechunk")


class SpecError(ValueError):
    """The text is no fault; the message begins with the word that is wrong."""


def parse(text: str) -> faults_pb2.Fault:
    """The fault that `text` describes.

    Raises:
        SpecError: Names the word.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SpecError(f"{text!r}: {error}") from error
    if len(words) < 2:
        raise SpecError(f"{text!r}: needs a target and an effect, such as: update refuse=503")
    fault = Fault()
    # Which word gave which field.
    origin: dict[str, str] = {}
    _read_target(fault, words[0], origin)
    _read_effect(fault, words[1], origin)
    for word in words[2:]:
        _read_key(fault, word, origin)
    try:
        check(fault)
    except FaultRefused as error:
        word = origin.get(error.field) or origin.get(error.field.partition(".")[0]) or words[1]
        raise SpecError(f"{word}: {error.why}") from error
    return fault


def format(fault: faults_pb2.Fault) -> str:  # noqa: A001 - the counterpart of `parse`
    """The shortest text that `parse` makes the same fault of. `fault` is one that makes sense."""
    target = fault.WhichOneof("target")
    effect = fault.WhichOneof("effect")
    if target is None or effect is None:
        raise ValueError("a fault without target or effect has no text")
    words = [_format_target(fault, target), *_format_effect(fault, effect)]
    for key, (path, _, render) in _KEYS.items():
        holder, name = _holder(fault, path)
        if "." not in path and getattr(holder, name):
            words.append(f"{key}={render(getattr(holder, name))}")
    return " ".join(map(shlex.quote, words))


def _read_target(fault: Fault, word: str, origin: dict[str, str]) -> None:
    name, equals, value = word.partition("=")
    if word == CONNECTION:
        fault.connection.SetInParent()
    elif not equals and name.lower() in _SHORT:
        setattr(fault, "call", _SHORT[name.lower()])  # noqa: B010 - its stub wants the enum's own type
    elif name in ("call", "event"):
        types = _CALLS if name == "call" else _EVENTS
        if value.lower() not in types:
            raise SpecError(f"{word}: no such type of {name}; there are {', '.join(types)}")
        setattr(fault, name, types[value.lower()])
    else:
        raise SpecError(f"{word}: no target; use call=TYPE, event=TYPE, connection, or {', '.join(_SHORT)}")
    origin[fault.WhichOneof("target") or ""] = word


def _read_effect(fault: Fault, word: str, origin: dict[str, str]) -> None:
    name, equals, value = word.partition("=")
    effect, dot, how = name.partition(".")
    if effect not in _EFFECTS:
        raise SpecError(f"{word}: no effect; there are {', '.join(_EFFECTS)}")
    getattr(fault, effect).SetInParent()
    origin[effect] = word
    if not equals and not dot:
        return
    field = how or _MAIN_FIELDS.get(effect, "")
    if (effect, field) not in _EFFECT_FIELDS:
        known = ", ".join(f"{owner}.{key}" for owner, key in _EFFECT_FIELDS if owner == effect)
        raise SpecError(f"{word}: " + (f"there are {known}" if known else f"{effect} takes no value"))
    _set(fault, f"{effect}.{field}", _EFFECT_FIELDS[effect, field], word, value, origin)


def _read_key(fault: Fault, word: str, origin: dict[str, str]) -> None:
    key, equals, value = word.partition("=")
    if key not in _KEYS:
        raise SpecError(f"{word}: no such key; there are {', '.join(_KEYS)}")
    path, read, _ = _KEYS[key]
    effect, dot, _ = path.partition(".")
    if dot and not fault.HasField(effect):
        raise SpecError(f"{word}: goes with {effect} only")
    if path in origin:
        raise SpecError(f"{word}: given twice")
    if not equals and read is not _flag:
        raise SpecError(f"{word}: needs a value, {key}=...")
    _set(fault, path, read, word, value, origin)


def _set(fault: Fault, path: str, read: Callable[[str], object], word: str, value: str, origin: dict[str, str]) -> None:
    holder, name = _holder(fault, path)
    try:
        setattr(holder, name, read(value))
    except (ValueError, TypeError, UnicodeError) as error:
        raise SpecError(f"{word}: {error}") from error
    origin[path] = word


def _holder(fault: Fault, path: str) -> tuple[object, str]:
    effect, dot, field = path.partition(".")
    return (getattr(fault, effect), field) if dot else (fault, path)


def _format_target(fault: Fault, target: str) -> str:
    if target == CONNECTION:
        return target
    types = _CALLS if target == "call" else _EVENTS
    name = next(name for name, value in types.items() if value == getattr(fault, target))
    return name if target == "call" and name in _SHORT else f"{target}={name if target == 'call' else name.upper()}"


def _format_effect(fault: Fault, effect: str) -> list[str]:
    body = getattr(fault, effect)
    if effect == "refuse":
        return [f"refuse={body.status}" if body.status else "refuse", *([f"body={body.body}"] if body.body else [])]
    if effect == "delay":
        return [f"delay={_format_seconds(body.seconds)}"]
    if effect == "cut":
        words = ["reset"] if body.reset else []
        return ["cut", *words, *([f"after_bytes={body.after_bytes}"] if body.after_bytes else [])]
    if effect in ("corrupt", "rechunk"):
        how = body.WhichOneof("how")
        name = effect if how == _MAIN_FIELDS.get(effect) else f"{effect}.{how}"
        return [f"{name}={getattr(body, how)}"]
    return [effect]


def _format_seconds(value: float) -> str:
    text = durations.render(round(value * 1e9))
    # A time that is no whole number of nanoseconds is a number, so that no digit is lost.
    return text if _seconds(text) == value else repr(value)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("not a whole number")
    return int(text)


def _signed(text: str) -> int:
    return -_whole(text[1:]) if text.startswith("-") else _whole(text)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("not a number") from None


def _seconds(text: str) -> float:
    """A number of seconds, or a duration as Mesos writes it."""
    try:
        return float(text)
    except ValueError:
        return durations.seconds(durations.parse(text))


def _flag(text: str) -> bool:
    values = {"": True, "true": True, "false": False}
    if text not in values:
        raise ValueError("true or false")
    return values[text]


# Which field `effect=value` means.
_MAIN_FIELDS = {"refuse": "status", "delay": "seconds", "rechunk": "chunk_bytes"}
_EFFECT_FIELDS: dict[tuple[str, str], Callable[[str], object]] = {
    ("refuse", "status"): _whole,
    ("refuse", "body"): str,
    ("delay", "seconds"): _seconds,
    ("cut", "reset"): _flag,
    ("cut", "after_bytes"): _whole,
    ("corrupt", "flip_bytes"): _whole,
    ("corrupt", "record_length"): str,
    ("corrupt", "event_type"): _signed,
    ("rechunk", "chunk_bytes"): _whole,
    ("rechunk", "events_per_chunk"): _whole,
}
# Key: field, reader, writer.
_KEYS: dict[str, tuple[str, Callable[[str], object], Callable[[object], str]]] = {
    "id": ("id", str, str),
    "executor": ("executor_id", str, str),
    "task": ("task_id", str, str),
    "skip": ("skip", _whole, str),
    "times": ("times", _whole, str),
    "probability": ("probability", _real, repr),
    "body": ("refuse.body", str, str),
    "reset": ("cut.reset", _flag, str),
    "after_bytes": ("cut.after_bytes", _whole, str),
}
