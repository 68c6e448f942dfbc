"""What the driver may say: the fields of every command, checked before anything is done."""

from __future__ import annotations

from math import isfinite

from executor_shim.coordinator.logfile import LogRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from executor_shim.coordinator.wire import Message

    Check = Callable[[Any, str], Any]


class CommandError(Exception):
    """A command that cannot be carried out. The text names the place and never holds a value of the environment."""


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise CommandError(f"{place}: must be a string")
    if "\0" in value:
        raise CommandError(f"{place}: holds a NUL character")
    return value


def _name(value: Any, place: str) -> str:
    if not _text(value, place):
        raise CommandError(f"{place}: must not be empty")
    return str(value)


def _bytes(value: Any, place: str) -> bytes:
    try:
        # What was not UTF-8 on the way in comes as lone surrogates and leaves as the bytes that it was.
        return _text(value, place).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise CommandError(f"{place}: cannot be encoded in UTF-8") from None


def _path(value: Any, place: str) -> bytes:
    path = _bytes(value, place)
    if not path.startswith(b"/") and b".." in path.split(b"/"):
        raise CommandError(f"{place}: leaves the sandbox")
    return path


def _absolute(value: Any, place: str) -> bytes:
    path = _path(value, place)
    if not path.startswith(b"/"):
        raise CommandError(f"{place}: must be an absolute path")
    return path


def _argv(value: Any, place: str) -> list[bytes]:
    if not isinstance(value, list) or not value:
        raise CommandError(f"{place}: must be a list with at least one string")
    argv = [_bytes(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if not argv[0]:
        raise CommandError(f"{place}[0]: must not be empty")
    return argv


def _env(value: Any, place: str) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise CommandError(f"{place}: must be an object of strings")
    env = {}
    for name, content in value.items():
        if not name or "=" in name:
            raise CommandError(f"{place}: a name is empty or holds '='")
        env[_bytes(name, f"{place}.{name}")] = _bytes(content, f"{place}.{name}")
    return env


def _count(value: Any, place: str) -> int:
    return _whole(value, place, (1 << 32) - 1)


def _whole(value: Any, place: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise CommandError(f"{place}: must be a number from 0 to {most}")
    return value


def _logging(value: Any, place: str) -> LogRules:
    if not isinstance(value, dict):
        raise CommandError(f"{place}: must be an object")
    console = value.get("console")
    if not isinstance(console, bool):
        raise CommandError(f"{place}.console: must be true or false")
    limit = _whole(value.get("limit"), f"{place}.limit", (1 << 63) - 1)
    return LogRules(console=console, limit=limit, backups=_count(value.get("backups"), f"{place}.backups"))


def _time(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CommandError(f"{place}: must be a number of seconds")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = float("inf")
    if not isfinite(seconds):
        raise CommandError(f"{place}: must be a finite number of seconds")
    return seconds


def _code(value: Any, place: str) -> int:
    if _count(value, place) > 255:
        raise CommandError(f"{place}: must be an exit code from 0 to 255")
    return int(value)


COMMANDS: dict[str, dict[str, Check]] = {
    "beat": {},
    "start": {
        "task": _name, "process": _name, "run": _count, "argv": _argv, "env": _env, "cwd": _path, "user": _text,
        "stdout": _path, "stderr": _path, "profile": _path, "sandbox": _absolute, "logging": _logging,
    },
    "terminate": {"task": _name, "kill_at": _time},
    "hard": {"task": _text, "at": _time},
    "probe": {
        "id": _text, "task": _name, "argv": _argv, "env": _env, "cwd": _path, "user": _text, "profile": _path,
        "timeout": _time, "sandbox": _absolute,
    },
    "stop_probe": {"id": _text},
    "stop_probes": {"task": _name},
    "stop": {"task": _name, "process": _name, "run": _count},
    "forget": {"task": _name},
    "settle": {"task": _name, "process": _name, "below": _count},
    "stream": {},
    "end": {"code": _code},
}  # fmt: skip
"""Fields by command. All of them must be there; others are ignored, for a newer driver's sake."""


def check(message: Message) -> tuple[str, dict[str, Any]]:
    """Command and fields, converted to what the kernel takes.

    Raises:
        CommandError: unknown command, or a field is missing or wrong.
    """
    op = message.get("op")
    if not isinstance(op, str) or op not in COMMANDS:
        raise CommandError("op: unknown command")
    fields = {}
    for field, convert in COMMANDS[op].items():
        if field not in message:
            raise CommandError(f"{op}.{field}: missing")
        fields[field] = convert(message[field], f"{op}.{field}")
    return op, fields


def error_event(message: Message, text: str) -> Message:
    """Tell the driver which of its commands failed, and why."""
    event: Message = {"ev": "error", "op": message.get("op"), "error": text}
    for field in ("task", "process", "run", "id"):
        value = message.get(field)
        if isinstance(value, (str, int)):
            event[field] = value
    return event
