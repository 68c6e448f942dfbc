"""Tasks with a health check, as Mesos would deliver them."""

from __future__ import annotations

import json
from typing import Any

from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2


def task_info(health: dict[str, Any] | None = None, ports: dict[str, int] | None = None, **task: Any) -> bytes:
    data: dict[str, Any] = {
        "task": {"name": "web", "processes": [{"name": "web", "cmdline": "true"}], **task},
        "role": "www",
        "environment": "prod",
        "cluster": "c",
        "name": "web",
    }
    if health is not None:
        data["health_check_config"] = health
    message = mesos_pb2.TaskInfo(name="web", data=json.dumps(data).encode())
    message.task_id.value = "t"
    message.agent_id.value = "a"
    message.discovery.visibility = mesos_pb2.DiscoveryInfo.CLUSTER
    for name, number in (ports or {}).items():
        message.discovery.ports.ports.add(name=name, number=number)
    return message.SerializeToString()


def with_checks(
    info: bytes,
    health: mesos_pb2.HealthCheck | None = None,
    check: mesos_pb2.CheckInfo | None = None,
    **labels: str,
) -> bytes:
    """The same task with Mesos' own checks. In the names of labels, the first `_` stands for a dot."""
    message = mesos_pb2.TaskInfo.FromString(info)
    if health is not None:
        message.health_check.CopyFrom(health)
    if check is not None:
        message.check.CopyFrom(check)
    for key, value in labels.items():
        message.labels.labels.add(key=key.replace("_", ".", 1), value=value)
    return message.SerializeToString()


def hello(uid: int = 1000) -> link_pb2.Hello:
    return link_pb2.Hello(hostname="host", sandbox="/mnt/mesos/sandbox", uid=uid)
