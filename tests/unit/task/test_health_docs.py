"""docs/health.md names every field of a check, with the default that holds."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

import pytest

from mesos.v1 import mesos_pb2
from trivet.task.v1 import task_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

PAGE = (pathlib.Path(__file__).parents[3] / "docs" / "health.md").read_text()
# Set by the reader of the JSON, never by users.
DERIVED = {"initial_interval_null"}
# Rows of a table: name, default, the rest.
ROWS = {match[1]: match[2] for match in re.finditer(r"^\| `([a-z_]+)` \| ([^|]*) \|", PAGE, re.MULTILINE)}


@pytest.mark.parametrize(
    "message",
    [
        task_pb2.HealthCheckConfig,
        task_pb2.HealthCheckerConfig,
        task_pb2.HttpHealthChecker,
        task_pb2.ShellHealthChecker,
        task_pb2.TcpHealthChecker,
        task_pb2.CommandHealthChecker,
        mesos_pb2.HealthCheck,
        mesos_pb2.CheckInfo,
        mesos_pb2.HealthCheck.HTTPCheckInfo,
    ],
    ids=lambda message: str(message.DESCRIPTOR.name),
)
def test_every_field_of_a_check_is_documented(message: type) -> None:
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[attr-defined]
    for field in descriptor.fields:
        assert field.name in DERIVED or re.search(rf"[`._]{field.name}\b", PAGE), field.name


@pytest.mark.parametrize("message", [task_pb2.HealthCheckConfig, task_pb2.HttpHealthChecker, mesos_pb2.HealthCheck])
def test_documented_defaults_are_the_contracts(message: type) -> None:
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[attr-defined]
    fields = [field for field in descriptor.fields if field.has_default_value]
    assert fields
    for field in fields:
        told = ROWS[field.name].strip().strip("`")
        shown = field.default_value if isinstance(field.default_value, str) else f"{field.default_value:g}"
        assert told == shown, field.name
