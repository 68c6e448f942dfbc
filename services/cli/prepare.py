"""From the command line to a TaskInfo that is known to be valid; nothing has been started yet."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.cli.ports import assign
from services.cli.taskinfo import command_task, task_info
from services.common.task import InvalidTask, load, parse_json, referenced_ports

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from mesos.v1 import mesos_pb2


class CannotStart(Exception):
    """There is no task to run; `lines` say why, one violation each."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task that only has to be launched."""

    info: mesos_pb2.TaskInfo
    name: str
    ports: dict[str, int]
    warnings: tuple[str, ...]


def prepare(options: argparse.Namespace, run_dir: str) -> Prepared:
    """Reads the task, gives it its ports and checks it as the runner will.

    Raises:
        CannotStart: it cannot be read, is invalid, or no port is free.
    """
    return prepare_data(command_task(options.command) if options.command else read(options.task), options.port, run_dir)


def prepare_data(data: bytes, given_ports: Mapping[str, int], run_dir: str) -> Prepared:
    """Gives a task its ports and checks it as the runner will.

    Raises:
        CannotStart: it is invalid, or no port is free.
    """
    try:
        task, _ = parse_json(data)
        ports = assign(referenced_ports(task), given_ports)
        info = task_info(data, task, ports=ports, run_dir=run_dir)
        loaded = load(info, hostname=socket.gethostname())
    except InvalidTask as invalid:
        raise CannotStart(invalid.violations) from None
    except OSError as error:
        raise CannotStart([f"no port is free: {error.strerror}"]) from error
    return Prepared(info=info, name=loaded.name, ports=ports, warnings=loaded.warnings)


def read(path: str) -> bytes:
    """What is in a file; `-` is stdin.

    Raises:
        CannotStart: it cannot be read.
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        hint = f" (to run it as a command: trivet run -- {path})" if _is_command(path, error) else ""
        raise CannotStart([f"{path}: {error.strerror}{hint}"]) from error


def _is_command(path: str, error: OSError) -> bool:
    from shutil import which

    return isinstance(error, FileNotFoundError) and os.sep not in path and which(path) is not None
