"""First program of a container: enters cgroups and namespaces, starts the executor, reaps, ends as the executor ends.

Started as a file, `python -I -S init.py PLAN GATE REPORT` with three inherited descriptors, so it uses the standard
library only and little of it. It corresponds to `mesos-containerizer launch`:

- PLAN: marshalled dict, see `helper.Plan`.
- REPORT: it writes `pid N`, or `error TEXT`. Everything is well when the pipe then ends without another word.
- GATE: it goes on when a byte arrives, and ends when the pipe does: the agent died before it could note the pid.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_PARENT = 0x00008000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 1 << 19
# glibc has no wrapper of clone() that returns twice, as fork() does.
CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "ppc64le": 120}


def main(plan_fd: int, gate: int, report: int) -> None:
    """Never returns."""
    with open(plan_fd, "rb") as file:
        plan = marshal.load(file)  # noqa: S302 - written by the agent, for this process alone
    os.set_inheritable(gate, False)
    os.set_inheritable(report, False)
    try:
        # Before anything else, so that whatever comes is limited, counted and found.
        for path in plan["procs"]:
            join(path)
        if plan["pid_namespace"]:
            become_init(plan, gate, report)
        elif plan["mount_namespace"]:
            own_mounts()
        os.write(report, b"pid %d\n" % os.getpid())
        wait_for_agent(gate)
        execute(plan)
    except (OSError, ValueError) as error:
        os.write(report, b"error " + str(error).encode(errors="replace"))
    os._exit(1)


def join(path: str) -> None:
    """Puts this process into a cgroup; `path` is its cgroup.procs."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def become_init(plan: dict[str, Any], gate: int, report: int) -> None:
    """Goes on as process 1 of a new pid namespace. Never returns."""
    own_mounts()
    call("unshare", CLONE_NEWPID)
    # A sibling instead of a child: the agent becomes its parent and learns how it ends; this process is not needed.
    pid = call("syscall", CLONE_NUMBERS[os.uname().machine], CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid:
        os.write(report, b"pid %d\n" % pid)
        os._exit(0)
    os.setsid()
    # Python's handler would let `kill -INT 1` from inside end the container.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    status = os.open(plan["status"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    wait_for_agent(gate)
    executor = os.fork()
    if executor == 0:
        execute(plan)
    # From now on only the executor holds it, until its execve.
    os.close(report)
    while True:
        pid, how = os.wait()
        if pid == executor:
            break
    if os.WIFSIGNALED(how):
        # Process 1 cannot end by a signal of its own.
        os.write(status, b"signal %d" % os.WTERMSIG(how))
        os._exit(128 + os.WTERMSIG(how))
    os.write(status, b"code %d" % os.WEXITSTATUS(how))
    os._exit(os.WEXITSTATUS(how))


def own_mounts() -> None:
    """A mount namespace of its own: what is mounted in it the host does not see."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_SLAVE, None)


def wait_for_agent(gate: int) -> None:
    """Returns when the agent has noted the pid; ends with the agent otherwise."""
    if not os.read(gate, 1):
        os._exit(1)
    os.close(gate)


def execute(plan: dict[str, Any]) -> None:
    """Becomes the executor."""
    # Python ignores them, and what is ignored stays ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if plan["user"] is not None:
        uid, gid, groups = plan["user"]
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    # Not os.execvpe: it imports a module, which the new user may not be allowed to read.
    executable, environment = plan["executable"], plan["environment"]
    paths = [executable]
    if b"/" not in executable:
        directories = environment.get(b"PATH", os.defpath.encode()).split(b":")
        paths = [os.path.join(directory, executable) for directory in directories]
    errors = []
    for path in paths:
        try:
            os.execve(path, plan["arguments"], environment)  # noqa: S606 - what it is for
        except OSError as error:
            errors.append(error)
    # As execvp: a file that is there and cannot be executed tells more than one that is not there.
    telling = [error for error in errors if not isinstance(error, (FileNotFoundError, NotADirectoryError))]
    first = (telling or errors)[0]
    raise OSError(first.errno, first.strerror, os.fsdecode(executable))


def call(name: str, *arguments: object) -> int:
    """A function of libc; raises OSError where that returns -1."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    result = getattr(libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(result)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
