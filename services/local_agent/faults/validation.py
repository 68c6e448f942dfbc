"""Which faults make sense. No I/O."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Fault = faults_pb2.Fault
CONNECTION = "connection"
MAX_DELAY = 86_400.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# Effects by target.
EFFECTS = {
    "call": ("refuse", "delay", "hold", "lose", "duplicate", "cut"),
    "event": ("delay", "hold", "lose", "duplicate", "cut", "corrupt", "rechunk"),
    CONNECTION: ("refuse", "delay", "hold", "cut"),
}
TYPES: dict[str, dict[str, int]] = {
    "call": {name.removeprefix("CALL_TYPE_"): value for name, value in faults_pb2.CallType.items() if value},
    "event": {name.removeprefix("EVENT_TYPE_"): value for name, value in faults_pb2.EventType.items() if value},
}
# Calls and events that name tasks.
_ABOUT_TASKS: dict[str, set[int]] = {
    "call": {faults_pb2.CALL_TYPE_SUBSCRIBE, faults_pb2.CALL_TYPE_UPDATE, faults_pb2.CALL_TYPE_ANY},
    "event": {
        faults_pb2.EVENT_TYPE_LAUNCH,
        faults_pb2.EVENT_TYPE_LAUNCH_GROUP,
        faults_pb2.EVENT_TYPE_KILL,
        faults_pb2.EVENT_TYPE_ACKNOWLEDGED,
        faults_pb2.EVENT_TYPE_ANY,
    },
}


class FaultRefused(Exception):
    """The fault makes no sense. `field` is its path below `fault`, `why` what is wrong there."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"fault.{field}: {why}" if field else f"fault: {why}")
        self.field = field
        self.why = why


def check(fault: Fault) -> None:
    """Says what is wrong first.

    Raises:
        FaultRefused: A field is missing, out of range, or without meaning for the target.
    """
    target = fault.WhichOneof("target")
    if target is None:
        raise FaultRefused("", "needs a target: one of call, event, connection")
    effect = fault.WhichOneof("effect")
    if effect is None:
        raise FaultRefused("", f"needs an effect: one of {', '.join(EFFECTS[target])}")
    for rule in (_target, _rhythm, _effect):
        for field, why in rule(fault, target, effect):
            raise FaultRefused(field, why)


def _target(fault: Fault, target: str, effect: str) -> Iterator[tuple[str, str]]:
    if fault.id and not _ID.fullmatch(fault.id):
        yield "id", "1 to 64 of A-Z a-z 0-9 . _ -, the first one a letter or digit"
    if target == CONNECTION:
        for field in ("executor_id", "task_id"):
            if getattr(fault, field):
                yield field, "connections cannot be told apart by it"
    else:
        kind: int = getattr(fault, target)
        if kind not in TYPES[target].values():
            yield target, f"no such type of {target}: {kind}"
        if fault.task_id and kind not in _ABOUT_TASKS[target]:
            yield "task_id", f"this {target} names no task"
    if effect not in EFFECTS[target]:
        yield effect, f"not for this target; a {target} knows {', '.join(EFFECTS[target])}"


def _rhythm(fault: Fault, target: str, effect: str) -> Iterator[tuple[str, str]]:
    if not 0 <= fault.probability <= 1:
        yield "probability", "from 0 to 1"
    if (target, effect) == (CONNECTION, "refuse"):
        for field in ("skip", "times", "probability"):
            if getattr(fault, field):
                yield field, "nobody listens while this fault is in force: there is nothing to count"


def _effect(fault: Fault, target: str, effect: str) -> Iterator[tuple[str, str]]:
    rule = _EFFECT_RULES.get(effect)
    if rule is not None:
        yield from rule(fault, target)


def _refuse(fault: Fault, target: str) -> Iterator[tuple[str, str]]:
    refuse = fault.refuse
    if target == CONNECTION:
        for field in ("status", "body"):
            if getattr(refuse, field):
                yield f"refuse.{field}", "a connection that is refused gets no answer"
    elif not 400 <= refuse.status <= 599:
        yield "refuse.status", f"{refuse.status} is not from 400 to 599"


def _delay(fault: Fault, target: str) -> Iterator[tuple[str, str]]:
    del target
    seconds = fault.delay.seconds
    if not math.isfinite(seconds) or not 0 < seconds <= MAX_DELAY:
        yield "delay.seconds", f"{seconds:g} is not above 0 and at most a day"


def _cut(fault: Fault, target: str) -> Iterator[tuple[str, str]]:
    if fault.cut.after_bytes and target != "event":
        yield "cut.after_bytes", "only events are written"


def _corrupt(fault: Fault, target: str) -> Iterator[tuple[str, str]]:
    del target
    corrupt = fault.corrupt
    how = corrupt.WhichOneof("how")
    if how is None:
        yield "corrupt", "needs one of flip_bytes, record_length, event_type"
    elif how == "flip_bytes" and not corrupt.flip_bytes:
        yield "corrupt.flip_bytes", "at least 1"
    elif how == "record_length" and "\n" in corrupt.record_length:
        yield "corrupt.record_length", "ends at a line feed: there may be none in it"
    elif how == "event_type" and (
        corrupt.event_type in faults_pb2.EventType.values() and corrupt.event_type != faults_pb2.EVENT_TYPE_ANY
    ):
        yield "corrupt.event_type", f"{corrupt.event_type} is a type that executors know"


def _rechunk(fault: Fault, target: str) -> Iterator[tuple[str, str]]:
    del target
    how = fault.rechunk.WhichOneof("how")
    if how is None:
        yield "rechunk", "needs one of chunk_bytes, events_per_chunk"
    elif how == "chunk_bytes" and not fault.rechunk.chunk_bytes:
        yield "rechunk.chunk_bytes", "at least 1"
    elif how == "events_per_chunk" and fault.rechunk.events_per_chunk < 2:
        yield "rechunk.events_per_chunk", "at least 2: one event a chunk is the ordinary way"


_EFFECT_RULES: dict[str, Callable[[Fault, str], Iterator[tuple[str, str]]]] = {
    "refuse": _refuse,
    "delay": _delay,
    "cut": _cut,
    "corrupt": _corrupt,
    "rechunk": _rechunk,
}
