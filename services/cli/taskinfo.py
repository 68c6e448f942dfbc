"""What a framework would send to Mesos for a task: TaskInfo, ExecutorInfo, FrameworkInfo."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import shlex
import socket
import sys
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trivet.task.v1 import task_pb2

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_task(command: Sequence[str]) -> bytes:
    """The JSON of a task with one process, called after its program."""
    name = os.path.basename(command[0]).lstrip(".") or "command"
    # 200 of at most 255 bytes, whatever the characters.
    name = name.encode()[:200].decode(errors="ignore")
    # The shell stays, so that a command that dies of a signal has failed (128 + signal): for Thermos that is no failure
    # of a process, which would be run again up to 100 times.
    process = {"name": name, "cmdline": f"{shlex.join(command)}; exit $?"}
    return json.dumps({"name": name, "processes": [process]}).encode()


def framework() -> mesos_pb2.FrameworkInfo:
    """A framework that checkpoints and knows partitions, like Aurora's scheduler, and without TASK_KILLING."""
    info = mesos_pb2.FrameworkInfo(user=current_user(), name="trivet", checkpoint=True, hostname=socket.gethostname())
    info.capabilities.add(type=mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE)
    return info


def task_info(data: bytes, task: task_pb2.Task, *, ports: Mapping[str, int], run_dir: str) -> mesos_pb2.TaskInfo:
    """A new task with its own executor.

    Args:
        data: the task as the user wrote it.
        task: the same, parsed.
        ports: named ports with their numbers.
        run_dir: where the executor finds the services' sockets.
    """
    name = task.name or task.task.name or task.task.processes[0].name
    # Mesos: an id is a part of paths and is limited to 255 bytes.
    stem = re.sub(r"[^\w-]", "-", name, flags=re.ASCII)[:64]
    task_id = f"{stem}-{secrets.token_hex(4)}"
    info = mesos_pb2.TaskInfo(name=name, data=data)
    info.task_id.value = task_id
    info.agent_id.value = ""  # filled in by the agent
    _add_resources(info, task.task.resources, ports)
    if ports:
        info.discovery.visibility = mesos_pb2.DiscoveryInfo.CLUSTER
        info.discovery.name = name
        for port_name, number in sorted(ports.items()):
            info.discovery.ports.ports.add(name=port_name, number=number, protocol="TCP")
    info.executor.executor_id.value = f"trivet-{task_id}"
    info.executor.type = mesos_pb2.ExecutorInfo.CUSTOM
    info.executor.name = "trivet"
    _fill_command(info.executor.command, run_dir)
    return info


def _fill_command(command: mesos_pb2.CommandInfo, run_dir: str) -> None:
    argv = [*executor_argv(), "--services", run_dir]
    command.shell = False
    # What the processes run as when the task names nobody; `{{thermos.user}}` says so.
    command.user = current_user()
    command.value = argv[0]
    command.arguments.extend(argv)
    # Commands are found where the user's shell finds them.
    command.environment.variables.add(name="PATH", value=os.environ.get("PATH", _DEFAULT_PATH))


def executor_argv() -> list[str]:
    """How the executor is started: the console script beside this interpreter, else its module."""
    script = os.path.join(os.path.dirname(sys.executable), "trivet-executor")
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-m", "executor_shim"]


def current_user() -> str:
    """Name of the current user, its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _add_resources(info: mesos_pb2.TaskInfo, wanted: task_pb2.Resources, ports: Mapping[str, int]) -> None:
    mebibyte = 1 << 20
    for name, amount in (("cpus", wanted.cpu), ("mem", wanted.ram / mebibyte), ("disk", wanted.disk / mebibyte)):
        if amount > 0:
            resource = info.resources.add(name=name, type=mesos_pb2.Value.SCALAR)
            resource.scalar.value = amount
    if ports:
        resource = info.resources.add(name="ports", type=mesos_pb2.Value.RANGES)
        for number in sorted(set(ports.values())):
            resource.ranges.range.add(begin=number, end=number)
