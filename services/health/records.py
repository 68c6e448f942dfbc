"""What is journalled of a task's checks: one header, then the whole state of a check again and again.

The last state of each check counts; each brings the result that led to it, and the newest of these are the history.
The first format knew one check a task, and no history: it is read, not written.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.keys import Executor, TaskKey
from services.health import checks
from services.health import spec as specs
from services.health.history import LENGTH, History
from services.health.model import Cause, Check, Gap, Kind, Phase
from services.health.rules import RULES
from services.health.verdict import Checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from services.health.history import Recorded

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Header:
    """Whose checks they are and what is probed. No `specs`: the task has no check."""

    key: TaskKey
    task_hash: bytes
    """SHA-256 of the TaskInfo that `specs` were taken from."""
    boot_id: str
    """Of this host: tasks and clock readings of another boot mean nothing."""
    specs: tuple[specs.Spec, ...]


def encode_header(header: Header) -> bytes:
    """The first record of a journal."""
    executor, task_id, launch = header.key
    return _dump(
        {
            "kind": "check",
            "format": FORMAT,
            "executor": [*executor],
            "task_id": task_id,
            "launch": launch,
            "task_hash": header.task_hash.hex(),
            "boot_id": header.boot_id,
            "specs": [spec.to_json() for spec in header.specs],
        }
    )


def decode_header(payload: bytes) -> Header:
    """Reverse of `encode_header`; also reads that of the first format.

    Raises:
        ValueError: It is not a header that this version knows.
    """
    match json.loads(payload):
        case {"kind": "check", "format": number} if number != FORMAT:
            raise ValueError(f"format {number!r} of a check's journal is not known here")
        case {
            "kind": "check",
            "executor": [str(framework_id), str(executor_id), str(incarnation)],
            "task_id": str(task_id),
            "launch": int(launch),
            "task_hash": str(task_hash),
            "boot_id": str(boot_id),
            **rest,
        }:
            key = TaskKey(Executor(framework_id, executor_id, incarnation), task_id, launch)
            return Header(key, bytes.fromhex(task_hash), boot_id, _decode_specs(rest))
    raise ValueError("the first record is not a check's")


def _decode_specs(rest: Mapping[object, object]) -> tuple[specs.Spec, ...]:
    match rest:
        case {"specs": list(made)}:
            return tuple(specs.spec_of_json(each) for each in made)
        case {"spec": None}:
            return ()
        case {"spec": dict(only)}:
            return (specs.spec_of_json(only),)
    raise ValueError("the first record does not say what is probed")


def encode_state(kind: Kind, version: int, check: Check, recorded: Recorded | None = None) -> bytes:
    """A later record: all of one check that has to survive the service.

    Args:
        kind: Which check of the task.
        version: Of the task's verdict.
        check: The state.
        recorded: The result that led to it.
    """
    gap = check.gap
    record: dict[str, object] = {
        "kind": "state",
        "check": kind.value,
        "phase": check.phase.value,
        "rule": check.rule.to_json(),
        "message": check.message,
        "version": version,
        "elapsed": check.elapsed,
        "last_done": check.last_done,
        "planned": _planned(check),
        "probes": check.probes,
        "failures": check.failures,
        "transients": check.transients,
        "snoozes": check.snoozes,
        "snoozed_until": check.snoozed_until,
        "gap": None if gap is None else [gap.since, gap.cause.value, gap.detail],
        # What a probe that is cut short has taken counts no more than the wait for the next one.
        "since": check.since if check.flight is None else None,
    }
    if recorded is not None:
        record["result"] = recorded.to_json()
    return _dump(record)


def _planned(check: Check) -> float | None:
    if check.flight is not None:
        return check.flight.sent_at
    return check.planned if check.due is None else check.due


def encode_results(kind: Kind, history: Iterable[Recorded]) -> bytes:
    """The history of a check, for a journal that begins anew."""
    return _dump({"kind": "results", "check": kind.value, "results": [recorded.to_json() for recorded in history]})


def decode(header: Header, payloads: Sequence[bytes]) -> tuple[Checks, dict[Kind, History]]:
    """The checks of a journal as they are right after a start of the service, with what they have found.

    Args:
        header: The first record. It has a check.
        payloads: All later ones. None: the task had just been launched.

    Raises:
        ValueError: A record is not one that this version knows.
    """
    rules = {spec.kind: spec.rule for spec in header.specs}
    found: dict[Kind, Check] = {}
    results: dict[Kind, list[bytes]] = {kind: [] for kind in rules}
    complete: set[Kind] = set()
    version = 0
    # The newest first: a journal holds many more than are needed.
    for payload in reversed(payloads):
        what, kind = _begins(payload)
        if what == "state" and kind not in found:
            record = json.loads(payload)
            version = max(version, record["version"])
            found[kind] = _decode_state(rules[kind], record)
        if kind not in complete and (what == "results" or _RESULT in payload):
            results[kind].append(payload)
            if what == "results" or len(results[kind]) == LENGTH:
                complete.add(kind)
        if complete == rules.keys() == found.keys():
            break
    of = {kind: found.get(kind) or checks.new(rule) for kind, rule in rules.items()}
    return Checks(version, of), {kind: History(newest[::-1]) for kind, newest in results.items()}


def _begins(payload: bytes) -> tuple[str, Kind]:
    """What a record is, without decoding it."""
    for beginning, what in _BEGINNINGS.items():
        if payload.startswith(beginning):
            return what
    raise ValueError("a record is not a check's state")


def _decode_state(rule: str, record: Mapping[str, object]) -> Check:
    match record:
        case {
            "phase": str(phase),
            "rule": dict(opinion),
            "message": str(message),
            "version": int(),
            "elapsed": int() | float() as elapsed,
            "last_done": (None | int() | float()) as last_done,
            "probes": int(probes),
            "failures": int(failures),
            "transients": int(transients),
            **rest,
        }:
            check = Check(
                phase=Phase(phase),
                rule=RULES[rule].restore(opinion),
                message=message,
                elapsed=elapsed,
                last_done=last_done,
                probes=probes,
                failures=failures,
                transients=transients,
            )
            return _with_second_format(check, rest) if "snoozes" in rest else check
    raise ValueError("a record is not a check's state")


def _with_second_format(check: Check, rest: Mapping[str, object]) -> Check:
    match rest:
        case {
            "planned": (None | int() | float()) as planned,
            "snoozes": int(snoozes),
            "snoozed_until": (None | int() | float()) as snoozed_until,
            "gap": gap,
            **later,
        }:
            since = later.get("since")
            if since is not None and not isinstance(since, int | float):
                raise ValueError("a record is not a check's state: since")
            return dataclasses.replace(
                check,
                planned=planned,
                snoozes=snoozes,
                snoozed_until=snoozed_until,
                gap=_decode_gap(gap),
                # The first records of this format did not have it.
                since=since,
            )
    raise ValueError("a record is not a check's state")


def _decode_gap(gap: object) -> Gap | None:
    match gap:
        case None:
            return None
        case [int() | float() as since, str(cause), str(detail)]:
            return Gap(since, Cause(cause), detail)
    raise ValueError("a record is not a check's state: gap")


# Made once: one result is encoded for every probe.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _dump(record: dict[str, object]) -> bytes:
    return _ENCODER.encode(record).encode()


# In a text its quotes would be escaped.
_RESULT = b',"result":['
# Keys are written in this order.
_BEGINNINGS = {
    _dump({"kind": what, "check": kind.value})[:-1]: (what, kind) for what in ("state", "results") for kind in Kind
} | {b'{"kind":"state","phase"': ("state", Kind.HEALTH)}
