"""Starts containers' first program, `init.py`, and keeps it waiting until its pid has been noted."""

from __future__ import annotations

import marshal
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.local_agent.containers.contract import Forked, LaunchFailed
from services.local_agent.containers.process_tree import read_process
from services.local_agent.containers.sandbox import open_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.local_agent.containers.contract import Command

INIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.py")
# From start to the pid, and from there to the executor's program: milliseconds, unless the machine does not get on.
START_SECS = 60.0


@dataclass(frozen=True)
class Plan:
    """What the first program does before the executor's.

    `procs`: the cgroups' files cgroup.procs; `status`: where process 1 of a pid namespace notes the executor's end.
    """

    procs: Sequence[str] = ()
    pid_namespace: bool = False
    mount_namespace: bool = False
    status: str = ""

    def encode(self, command: Command) -> bytes:
        """As `init.py` reads it."""
        user = command.user
        return marshal.dumps(
            {
                "procs": list(self.procs),
                "pid_namespace": self.pid_namespace,
                "mount_namespace": self.mount_namespace,
                "status": self.status,
                "user": (user.uid, user.gid, list(user.groups)) if user else None,
                "executable": os.fsencode(command.executable),
                "arguments": [os.fsencode(argument) for argument in command.arguments],
                "environment": {os.fsencode(n): os.fsencode(v) for n, v in command.environment.items()},
            }
        )


class Helper:
    """A first program that waits for `go`."""

    def __init__(self, forked: Forked, gate: int, report: int) -> None:
        self.forked = forked
        self._gate = gate
        self._report = report

    def go(self) -> None:
        """See `contract.Child`."""
        try:
            os.write(self._gate, b"g")
            waiting = True
        except BrokenPipeError:
            # It has said why, most probably.
            waiting = False
        error = _read(self._report, b"")
        if error or not waiting:
            raise LaunchFailed(error or "the container's first process ended before the executor was started")

    def close(self) -> None:
        """See `contract.Child`."""
        for descriptor in (self._gate, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self._gate = self._report = -1


def start(sandbox: str, command: Command, plan: Plan) -> Helper:
    """Starts the first program; returns once its pid is known. Blocks.

    Raises:
        LaunchFailed: It could not enter what the plan says.
        OSError: It could not be started.
    """
    encoded = os.memfd_create("plan")
    gate, gate_write = os.pipe()
    report, report_write = os.pipe()
    helper = Helper(Forked(0, 0), gate_write, report)
    try:
        with open(os.dup(encoded), "wb") as file:
            file.write(plan.encode(command))
        os.lseek(encoded, 0, os.SEEK_SET)
        process = _spawn(sandbox, command, [encoded, gate, report_write])
    except BaseException:
        helper.close()
        raise
    finally:
        for descriptor in (encoded, gate, report_write):
            os.close(descriptor)
    try:
        pid = _pid(_read(report, b"\n"))
    except LaunchFailed:
        process.kill()
        process.wait()
        helper.close()
        raise
    if pid == process.pid:
        # Reaped through its pidfd; Popen must not do it when some other process is started.
        process.returncode = 0
    else:
        # It made a sibling of itself and is not needed any more.
        process.wait()
    row = read_process(pid)
    helper.forked = Forked(pid, row.start_ticks if row else 0)
    return helper


def _spawn(sandbox: str, command: Command, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    out, err = open_output(sandbox, command.user)
    try:
        # No user, group or preexec_fn: they would mean fork() instead of vfork(), unsafe beside gRPC's threads.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", INIT, *map(str, descriptors)],
            cwd=sandbox,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            pass_fds=descriptors,
        )
    finally:
        os.close(out)
        os.close(err)


def _pid(line: str) -> int:
    word, _, rest = line.partition(" ")
    if word == "pid":
        return int(rest)
    raise LaunchFailed(rest if word == "error" else "the container's first process ended at once")


def _read(descriptor: int, end: bytes) -> str:
    """Until `end`, or the end of the pipe. The word `error` is left in front of a first answer only."""
    deadline = time.monotonic() + START_SECS
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    text = b""
    while not (end and text.endswith(end)):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LaunchFailed(f"the container's first process is silent for {START_SECS:g} s")
        data = os.read(descriptor, 1 if end else 4096)
        if not data:
            break
        text += data
    answer = text.decode(errors="replace").strip()
    return answer if end else answer.removeprefix("error ")
