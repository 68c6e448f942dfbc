"""What is journalled of a check: one header, then its whole state again and again. The last one counts."""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.common.keys import Executor, TaskKey
from services.health import spec as specs
from services.health.model import Check, Phase
from services.health.rules import RULES


@dataclass(frozen=True, slots=True)
class Header:
    """Whose check it is and what is probed. `spec` None: the task has no health check."""

    key: TaskKey
    task_hash: bytes
    """SHA-256 of the TaskInfo that `spec` was taken from."""
    boot_id: str
    """Of this host: tasks and clock readings of another boot mean nothing."""
    spec: specs.Spec | None


def encode_header(header: Header) -> bytes:
    """The first record of a journal."""
    executor, task_id, launch = header.key
    return _dump(
        {
            "kind": "check",
            "executor": [*executor],
            "task_id": task_id,
            "launch": launch,
            "task_hash": header.task_hash.hex(),
            "boot_id": header.boot_id,
            "spec": header.spec and header.spec.to_json(),
        }
    )


def decode_header(payload: bytes) -> Header:
    """Reverse of `encode_header`.

    Raises:
        ValueError: It is not a header that this version knows.
    """
    match json.loads(payload):
        case {
            "kind": "check",
            "executor": [str(framework_id), str(executor_id), str(incarnation)],
            "task_id": str(task_id),
            "launch": int(launch),
            "task_hash": str(task_hash),
            "boot_id": str(boot_id),
            "spec": (None | dict()) as spec,
        }:
            key = TaskKey(Executor(framework_id, executor_id, incarnation), task_id, launch)
            made = None if spec is None else specs.spec_of_json(spec)
            return Header(key, bytes.fromhex(task_hash), boot_id, made)
    raise ValueError("the first record is not a check's")


def encode_state(check: Check) -> bytes:
    """A later record: all that has to survive the service."""
    return _dump(
        {
            "kind": "state",
            "phase": check.phase.value,
            "rule": check.rule.to_json(),
            "message": check.message,
            "version": check.version,
            "elapsed": check.elapsed,
            "last_done": check.last_done,
            "probes": check.probes,
            "failures": check.failures,
            "transients": check.transients,
        }
    )


def decode_state(rule: str, payload: bytes) -> Check:
    """Reverse of `encode_state`: the check as it is right after a start of the service.

    Args:
        rule: Name of the verdict rule, from the header.
        payload: The record.

    Raises:
        ValueError: It is not a state that this version knows.
    """
    match json.loads(payload):
        case {
            "kind": "state",
            "phase": str(phase),
            "rule": dict(opinion),
            "message": str(message),
            "version": int(version),
            "elapsed": int() | float() as elapsed,
            "last_done": (None | int() | float()) as last_done,
            "probes": int(probes),
            "failures": int(failures),
            "transients": int(transients),
        }:
            return Check(
                phase=Phase(phase),
                rule=RULES[rule].restore(opinion),
                message=message,
                version=version,
                elapsed=elapsed,
                last_done=last_done,
                probes=probes,
                failures=failures,
                transients=transients,
                remaining=None,
            )
    raise ValueError("a record is not a check's state")


def _dump(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
