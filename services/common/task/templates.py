"""Template variables: `{{thermos.ports[http]}}` and friends in a task's texts.

A reference is two braces, no brace inside, two braces. Thermos takes every such text for a reference, so one that is
not known rejects the task: `{{ x }}`, `{{.Id}}`, `{{&x}}`. All else is left as it stands: `a{{b`, `{{a} {b}}`.

A name without `thermos.` or `mesos.` is that of a field of the object in which the text stands, or of one around it,
the nearest first: `{{name}}` in a command line is the process's name, `{{role}}` the job's (Thermos: scopes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from services.common.task.findings import Findings, at, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.protobuf.message import Message

MAX_GROWTH = 16 << 20
"""Bytes by which the references of a task may make it longer, all together."""

# Of one text: a hostile one may be nothing but faults.
_MAX_FAULTS = 100
_REFERENCE = re.compile(r"\{\{([^{}]+)\}\}")
_PORT = re.compile(r"thermos\.ports\[([\w\-./]+)\]")
_OWN = re.compile(r"[a-z_]+(\.[a-z_]+)*")
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


def resolve(text: str, lookup: Callable[[str], str]) -> str:
    """Replaces all references in `text` by what `lookup` says of their names.

    Raises:
        LookupError: some cannot be resolved, or are inside others; its arguments are texts that name each.
    """
    # As an ordered set: the same fault may be made many times.
    faults: dict[str, None] = {"has a template reference inside another": None} if _nested(text) else {}

    def value(match: re.Match[str]) -> str:
        try:
            return lookup(match[1])
        except LookupError as error:
            if len(faults) < _MAX_FAULTS:
                faults[str(error.args[0])] = None
            return ""

    # Values are not looked at again: a reference in a value (a host name, say) stays text.
    resolved = _REFERENCE.sub(value, text)
    if faults:
        raise LookupError(*faults)
    return resolved


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


class Resolver:
    """Resolves the texts of one task in place; what cannot be resolved is recorded at its path."""

    def __init__(self, variables: Variables, findings: Findings) -> None:
        self._variables = variables
        self._findings = findings
        self._room = MAX_GROWTH
        # Of objects that are met again: what is resolved stays so, whatever came out of it.
        self._known: dict[tuple[str, str], _Scope] = {}

    def resolve(self, message: Message, path: str, around: Sequence[tuple[Message, str]] = ()) -> None:
        """Resolves every text inside `message`; `around`: the objects around it with their paths, outermost first."""
        self._message(self._scope(message, path, around))

    def resolve_fields(
        self, message: Message, path: str, names: Sequence[str], around: Sequence[tuple[Message, str]] = ()
    ) -> None:
        """Resolves some texts of `message` and nothing below it."""
        scope = self._scope(message, path, around)
        for name in names:
            if message.HasField(name):
                self._field(scope, name)

    def _scope(self, message: Message, path: str, around: Sequence[tuple[Message, str]]) -> _Scope:
        outer = self._scope(*around[-1], around[:-1]) if around else None
        # A path alone is not enough: a task without a job stands at the same place as what is beside it.
        return self._known.setdefault((message.DESCRIPTOR.full_name, path), _Scope(message, path, outer))

    def _message(self, scope: _Scope) -> None:
        for field, value in scope.message.ListFields():
            place = at(scope.path, field.name)
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                for key in sorted(value):
                    value[key] = self._text(value[key], at(place, key), scope)
            elif field.message_type is not None and field.is_repeated:
                for index, part in enumerate(value):
                    if _may_refer(part):
                        self._message(_Scope(part, at(place, index), scope))
            elif field.message_type is not None:
                self._message(_Scope(value, place, scope))
            elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.is_repeated:
                for index, text in enumerate(value):
                    value[index] = self._text(text, at(place, index), scope)
            elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
                self._field(scope, field.name)

    def _field(self, scope: _Scope, name: str) -> str:
        """The field's text, resolved: now, if it has not been before."""
        text: str = getattr(scope.message, name)
        if "{{" not in text or name in scope.done:
            return text
        if name in scope.busy:
            raise LookupError(f"{quoted(name)} leads back to itself")
        scope.busy.add(name)
        resolved = self._text(text, at(scope.path, name), scope)
        scope.busy.discard(name)
        scope.done.add(name)
        setattr(scope.message, name, resolved)
        return resolved

    def _text(self, text: str, path: str, scope: _Scope) -> str:
        if "{{" not in text:
            return text
        try:
            return resolve(text, lambda name: self._value(name, scope))
        except LookupError as error:
            self._findings.violation(path, *error.args)
            return text

    def _value(self, name: str, scope: _Scope) -> str:
        value = self._own(name, scope)
        if value is None:
            value = self._variables.lookup(name)
        self._room -= len(value)
        if self._room < 0:
            raise LookupError(f"the references of the task make it longer by more than {MAX_GROWTH} bytes")
        return value

    def _own(self, name: str, scope: _Scope | None) -> str | None:
        """The value of a field of an object around the text; None when no object has one of this name."""
        if not _OWN.fullmatch(name):
            return None
        first, *others = name.split(".")
        while scope is not None and not _has(scope.message, first):
            scope = scope.around
        if scope is None:
            return None
        if not others and isinstance(getattr(scope.message, first), str):
            return self._field(scope, first)
        value = getattr(scope.message, first)
        for other in others:
            if not hasattr(value, "DESCRIPTOR") or not _has(value, other):
                raise LookupError(f"{quoted(name)} is not a variable")
            value = getattr(value, other)
        if hasattr(value, "DESCRIPTOR"):
            raise LookupError(f"{quoted(name)} is no single value")
        if isinstance(value, str) and "{{" in value:
            raise LookupError(f"{quoted(name)} has a template reference itself")
        return str(value)


class _Scope:
    """An object and those around it."""

    __slots__ = ("around", "busy", "done", "message", "path")

    def __init__(self, message: Message, path: str, around: _Scope | None) -> None:
        self.message = message
        self.path = path
        self.around = around
        self.busy: set[str] = set()
        self.done: set[str] = set()


def _may_refer(message: Message) -> bool:
    """Whether a text inside may have a reference: the quick look that spares most of a large task the thorough one."""
    return b"{{" in message.SerializeToString()


def _has(message: Message, name: str) -> bool:
    """Whether a field has a value, its default included (Thermos: a field with a default is never empty)."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None or field.is_repeated:
        return False
    return message.HasField(name) or field.has_default_value


def texts(message: Message, path: str) -> Iterator[tuple[Any, str | int, str, str]]:
    """Every text inside `message`: its owner (message, list or map), its key there, its path and itself."""
    for field, value in message.ListFields():
        place = at(path, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((value, key, at(place, key), value[key]) for key in sorted(value))
        elif field.message_type is not None:
            parts = list(enumerate(value)) if field.is_repeated else [(None, value)]
            for index, part in parts:
                yield from texts(part, place if index is None else at(place, index))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            if field.is_repeated:
                yield from ((value, index, at(place, index), text) for index, text in enumerate(list(value)))
            else:
                yield message, field.name, place, value
