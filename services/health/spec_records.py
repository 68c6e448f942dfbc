"""A check's specification in the journal: every field by its name, the target with its type."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from services.common.task.checks import SHELLS, CommandTarget, Expected, HttpTarget, Loopback, Source, TcpTarget
from services.health.model import Kind
from services.health.rules import RULES, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.common.task.checks import Target
    from services.health.spec import Spec

_Record = dict[str, Any]


def write_spec(spec: Spec) -> dict[str, object]:
    """The record."""
    return {
        "kind": spec.kind.value,
        "source": spec.source.value,
        "target": _write_target(spec.target),
        "expected": {"statuses": [list(pair) for pair in spec.expected.statuses], "body": spec.expected.body},
        "timeout": spec.timeout,
        "limits": dataclasses.asdict(spec.limits),
        "rule": spec.rule,
        "gates": spec.gates,
        "user": spec.user,
        "env": dict(spec.env),
    }


def read_spec(record: Mapping[str, object]) -> dict[str, Any]:
    """The fields of a `Spec`.

    Raises:
        ValueError: The record does not hold a check that this version knows.
    """
    try:
        fields = _of_one_check(record) if record.get("kind") in _OLD_TARGETS else _fields(record)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"not a health check that this version knows: {type(error).__name__}: {error}") from error
    if fields["rule"] not in RULES:
        raise ValueError("not a health check that this version knows: its rule")
    return fields


def _write_target(target: Target) -> dict[str, object]:
    match target:
        case HttpTarget():
            return {
                "type": "http",
                "port": target.port,
                "path": target.path,
                "tls": target.tls,
                "headers": dict(target.headers),
                "loopback": target.loopback.value,
            }
        case TcpTarget():
            return {"type": "tcp", "port": target.port, "loopback": target.loopback.value}
        case CommandTarget():
            return {"type": "command", "argv": list(target.argv), "env": dict(target.env), "text": target.text}


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    target, expected = record["target"], record["expected"]
    return {
        "kind": Kind(record["kind"]),
        "source": Source(record["source"]),
        "target": _TARGETS[target["type"]](target),
        "expected": Expected(tuple((int(a), int(b)) for a, b in expected["statuses"]), _text(expected["body"])),
        "timeout": _number(record["timeout"]),
        "limits": _limits(record["limits"]),
        "rule": _text(record["rule"]),
        "gates": bool(record["gates"]),
        "user": _text(record["user"]),
        "env": _texts(record["env"]),
    }


def _http(target: _Record) -> Target:
    return HttpTarget(
        port=int(target["port"]),
        path=_text(target["path"]),
        tls=bool(target["tls"]),
        headers=_texts(target["headers"]),
        loopback=Loopback(target["loopback"]),
    )


def _tcp(target: _Record) -> Target:
    return TcpTarget(int(target["port"]), Loopback(target["loopback"]))


def _command(target: _Record) -> Target:
    argv = tuple(_text(argument) for argument in target["argv"])
    if not argv:
        raise ValueError("no program")
    return CommandTarget(argv, _texts(target["env"]), _text(target["text"]))


_TARGETS: dict[str, Callable[[_Record], Target]] = {"http": _http, "tcp": _tcp, "command": _command}


# Until a task could have two checks, a record's `kind` was what it probed with, and all were Aurora's.


def _of_one_check(record: Mapping[str, Any]) -> dict[str, Any]:
    target = record["target"]
    return {
        "kind": Kind.HEALTH,
        "source": Source.AURORA,
        **_OLD_TARGETS[record["kind"]](target),
        "timeout": _number(record["timeout"]),
        "limits": _limits(record["limits"]),
        "rule": _text(record["rule"]),
        "gates": True,
    }


def _old_http(target: _Record) -> dict[str, Any]:
    status = int(target["expected_status"])
    return {
        "target": HttpTarget(int(target["port"]), _text(target["path"])),
        "expected": Expected(((status, status),) if status else (), _text(target["expected_body"])),
    }


def _old_shell(target: _Record) -> dict[str, Any]:
    command = _text(target["command"])
    return {
        "target": CommandTarget((SHELLS[0], "-c", command), {}, command),
        "expected": Expected(),
        "user": _text(target["user"]),
        "env": _texts(target["env"]),
    }


_OLD_TARGETS: dict[object, Callable[[_Record], dict[str, Any]]] = {"http": _old_http, "shell": _old_shell}


def _limits(record: Any) -> Limits:
    if not all(isinstance(value, int | float) for value in record.values()):
        raise TypeError("a limit is no number")
    return Limits(**record)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}
