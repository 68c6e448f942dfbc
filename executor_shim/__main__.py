"""`trivet-executor`: what Mesos launches. Hides the agent's token and becomes the coordinator."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built in; `signal` would cost 3 ms for its enums
import os
import sys

from executor_shim.coordinator.options import HELP, OptionError, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN = b"MESOS_EXECUTOR_AUTHENTICATION_TOKEN"

HELD_BACK = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)

_BOOT = """\
import sys
sys.path.append(sys.argv[2])
from executor_shim.coordinator.__main__ import main
main()
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Check the options and become the coordinator. Returns only an exit code for what went wrong, or for --help."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = Options(arguments)
    except OptionError as error:
        sys.stderr.write(f"trivet-executor: {error}\n")
        return 2
    if "--help" in options.values:
        sys.stdout.write(HELP)
        return 0
    if "--version" in options.values:
        from importlib.metadata import version

        sys.stdout.write(f"trivet-executor {version('trivet')}\n")
        return 0
    # Until the coordinator can handle them, they wait: it must not die with a driver started already.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, HELD_BACK)
    _open_standard_descriptors()
    environment = dict(os.environb)
    token = environment.pop(TOKEN, None)
    token_fd = -1
    if token is not None:
        # /proc/PID/environ shows the block that a process was exec'ed with, whatever it deletes later. After this exec
        # neither coordinator nor driver nor any child ever had the token there.
        token_fd = os.memfd_create("trivet-token", 0)
        os.write(token_fd, token)
        os.lseek(token_fd, 0, os.SEEK_SET)
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    bare = [sys.executable, "-I", "-S", "-c", _BOOT, "executor_shim.coordinator", package, str(token_fd)]
    os.execve(sys.executable, [*bare, *arguments], environment)  # noqa: S606 - there must be no shell here
    return 1


def _open_standard_descriptors() -> None:
    """A closed 0, 1 or 2 would be taken by the next thing opened, and then written to by tasks."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


if __name__ == "__main__":
    sys.exit(main())
