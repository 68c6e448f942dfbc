"""Mesos' text for resources: `cpus:4;mem:4096;ports:[31000-32000]`. Shown to executors, not enforced."""

from __future__ import annotations

import math
import os
import re

from mesos.v1 import mesos_pb2

_RANGE = re.compile(r"(\d+)-(\d+)")


def parse(text: str) -> tuple[mesos_pb2.Resource, ...]:
    """Scalars and ranges.

    Raises:
        ValueError: Names the part that is wrong.
    """
    return tuple(_resource(part.strip()) for part in text.split(";") if part.strip())


def of_this_host() -> str:
    """CPUs and memory of the host, and Mesos' default ports."""
    mebibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
    return f"cpus:{os.cpu_count() or 1};mem:{mebibytes};ports:[31000-32000]"


def _resource(part: str) -> mesos_pb2.Resource:
    name, colon, value = part.partition(":")
    if not colon or not name:
        raise ValueError(f"{part!r}: expected name:value")
    resource = mesos_pb2.Resource(name=name, type=mesos_pb2.Value.SCALAR)
    if value.startswith("[") and value.endswith("]"):
        resource.type = mesos_pb2.Value.RANGES
        for text in value[1:-1].split(","):
            match = _RANGE.fullmatch(text.strip())
            if match is None:
                raise ValueError(f"{part!r}: expected ranges such as [31000-32000]")
            resource.ranges.range.add(begin=int(match[1]), end=int(match[2]))
        return resource
    try:
        resource.scalar.value = float(value)
    except ValueError as error:
        raise ValueError(f"{part!r}: expected a number or ranges") from error
    if not 0 <= resource.scalar.value < math.inf:
        raise ValueError(f"{part!r}: expected an amount, 0 or more")
    return resource
