"""Template variables: `{{thermos.ports[http]}}` and friends in a task's texts.

A reference is two braces, no brace inside, two braces. Thermos takes every such text for a reference, so one that is
not known rejects the task: `{{ x }}`, `{{.Id}}`, `{{&x}}`. All else is left as it stands: `a{{b`, `{{a} {b}}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from services.common.task.findings import Findings, at, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message

_REFERENCE = re.compile(r"\{\{([^{}]+)\}\}")
_PORT = re.compile(r"thermos\.ports\[([\w\-./]+)\]")
# Stands in for a reference while looking for references around it; not a brace, so it may be inside of one.
_INNER = "\ufffc"


@dataclass(frozen=True, slots=True)
class Variables:
    """Values by the name in the template; None: a known variable that has no value here."""

    ports: Mapping[str, int]
    values: Mapping[str, str | None]

    def lookup(self, name: str) -> str:
        """The variable's value.

        Raises:
            LookupError: there is none; the text says why.
        """
        port = _PORT.fullmatch(name)
        if port is not None:
            if port[1] not in self.ports:
                raise LookupError(f"{quoted(name)}: no port of this name is assigned")
            return str(self.ports[port[1]])
        if name in ("thermos.ports", "thermos.ports[]"):
            raise LookupError(f"{quoted(name)}: a port needs its name: thermos.ports[NAME]")
        if name not in self.values:
            raise LookupError(f"{quoted(name)} is not a variable")
        value = self.values[name]
        if value is None:
            raise LookupError(f"{quoted(name)} has no value in this task")
        return value


def resolve(text: str, variables: Variables) -> str:
    """Replaces all references in `text`.

    Raises:
        LookupError: one cannot be resolved, or is inside another; the text names it.
    """
    if _nested(text):
        raise LookupError("has a template reference inside another")
    # Values are not looked at again: a reference in a value (a host name, say) stays text.
    return _REFERENCE.sub(lambda match: variables.lookup(match[1]), text)


def port_names(text: str) -> Iterator[str]:
    """Names of the ports that `text` refers to."""
    for match in _REFERENCE.finditer(text):
        port = _PORT.fullmatch(match[1])
        if port is not None:
            yield port[1]


def _nested(text: str) -> bool:
    if "{{" not in text:
        return False
    outside = _REFERENCE.sub(_INNER, text.replace(_INNER, ""))
    return any(_INNER in match[1] for match in _REFERENCE.finditer(outside))


def resolve_message(message: Message, variables: Variables, path: str, findings: Findings) -> None:
    """Resolves every text inside `message` in place; what cannot be resolved is recorded at its path."""
    for owner, key, place, text in texts(message, path):
        if "{{" not in text:
            continue
        try:
            resolved = resolve(text, variables)
        except LookupError as error:
            findings.violation(place, str(error.args[0]))
            continue
        if isinstance(key, int):
            owner[key] = resolved
        else:
            setattr(owner, key, resolved)


def texts(message: Message, path: str) -> Iterator[tuple[Any, str | int, str, str]]:
    """Every text inside `message`: its owner (message or list), its key there, its path and itself. Maps have none."""
    for field, value in message.ListFields():
        place = at(path, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not None:
            parts = list(enumerate(value)) if field.is_repeated else [(None, value)]
            for index, part in parts:
                yield from texts(part, place if index is None else at(place, index))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            if field.is_repeated:
                yield from ((value, index, at(place, index), text) for index, text in enumerate(list(value)))
            else:
                yield message, field.name, place, value
