"""Starting drivers. Imports next to nothing: the first driver must be under way before the coordinator has grown."""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from executor_shim.coordinator.options import Options

_BOOT = """\
import sys
package, *rest = sys.argv[2:]
sys.path.append(package)
sys.argv[:] = ["executor_shim.driver", *rest]
from executor_shim.driver.__main__ import main
sys.exit(main())
"""

# What Python ignores or handles in here. The kernel resets handlers, but not what is ignored.
_RESET = (1, 2, 3, 10, 12, 13, 15, 17, 25)


class Launcher:
    """Everything that each driver gets, the first and the last."""

    __slots__ = ("_argv", "_options", "incarnation", "states", "token_fd")

    def __init__(self, options: Options, package: str, token_fd: int) -> None:
        """Make what outlives the drivers.

        Args:
            options: command line of the executor.
            package: directory that holds the package `executor_shim`.
            token_fd: descriptor of the agent's token, -1 without one.
        """
        self._options = options
        self._argv = options.driver_argv or [
            sys.executable, "-I", "-c", _BOOT, "executor_shim.driver", package,
        ]  # fmt: skip
        self.incarnation = os.urandom(16).hex()
        """Random: an executor id may be used again later."""
        self.states = (os.memfd_create("trivet-state-a"), os.memfd_create("trivet-state-b"))
        """Where drivers keep what their successors must know."""
        self.token_fd = token_fd

    def start(self, generation: int, stream_fd: int) -> tuple[int, _socket.socket]:
        """Start a driver in a session of its own, so that no signal to the coordinator's group meets it.

        Returns:
            pid and our end of the socketpair.

        Raises:
            OSError: it could not be started.
        """
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        handed = [fd for fd in (theirs.fileno(), *self.states, self.token_fd, stream_fd) if fd >= 0]
        argv = [
            *self._argv,
            "--fd", str(theirs.fileno()),
            "--state-fds", ",".join(map(str, self.states)),
            "--token-fd", str(self.token_fd),
            "--stream-fd", str(stream_fd),
            "--generation", str(generation),
            "--incarnation", self.incarnation,
            *self._options.handed_on,
        ]  # fmt: skip
        try:
            for fd in handed:
                os.set_inheritable(fd, True)
            pid = os.posix_spawn(argv[0], argv, os.environb, setsid=True, setsigmask=(), setsigdef=_RESET)
        except OSError:
            ours.close()
            raise
        finally:
            for fd in handed:
                os.set_inheritable(fd, False)
            theirs.close()
        return pid, ours
