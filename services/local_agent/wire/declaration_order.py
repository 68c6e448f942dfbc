"""In which order Mesos' own .proto files declare the fields of messages whose numbers do not follow it.

Mesos' JSON lists fields in declaration order. Messages that are not named here follow their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# Field numbers.
_ORDER: dict[str, tuple[int, ...]] = {
    "mesos.v1.AgentInfo": (1, 8, 3, 5, 6, 10),
    "mesos.v1.CheckInfo": (1, 2, 3, 7, 4, 5, 6),
    "mesos.v1.CommandInfo": (1, 2, 6, 3, 7, 5),
    "mesos.v1.ContainerInfo": (1, 2, 4, 3, 5, 7, 8, 9, 10),
    "mesos.v1.ContainerStatus": (4, 1, 2, 3),
    "mesos.v1.Environment.Variable": (1, 3, 2, 4),
    "mesos.v1.ExecutorInfo": (15, 1, 8, 7, 11, 5, 9, 10, 4, 12, 13, 14),
    "mesos.v1.FrameworkInfo": (1, 2, 3, 4, 5, 6, 12, 7, 8, 9, 10, 11, 13),
    "mesos.v1.HealthCheck": (2, 3, 4, 5, 6, 8, 7, 1, 9),
    "mesos.v1.HealthCheck.HTTPCheckInfo": (5, 3, 1, 2, 4),
    "mesos.v1.HealthCheck.TCPCheckInfo": (2, 1),
    "mesos.v1.NetworkInfo": (5, 6, 3, 4, 7),
    "mesos.v1.Resource": (12, 1, 2, 3, 4, 5, 6, 11, 8, 13, 7, 9, 10),
    "mesos.v1.TaskInfo": (1, 2, 3, 4, 5, 7, 9, 8, 13, 12, 6, 10, 11, 14, 15),
    "mesos.v1.TaskStatus": (1, 2, 4, 9, 10, 3, 5, 7, 6, 11, 8, 15, 12, 13, 14, 16),
    "mesos.v1.executor.Event": (1, 2, 3, 4, 8, 5, 6, 7),
}
_CACHE: dict[str, tuple[Any, ...]] = {}


def fields(descriptor: Any) -> tuple[Any, ...]:
    """All fields of a message in Mesos' declaration order."""
    known = _CACHE.get(descriptor.full_name)
    if known is None:
        order = _ORDER.get(descriptor.full_name, ())
        position = {number: index for index, number in enumerate(order)}
        known = tuple(sorted(descriptor.fields, key=lambda field: (position.get(field.number, 99), field.number)))
        _CACHE[descriptor.full_name] = known
    return known
