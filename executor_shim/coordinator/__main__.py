"""Start of the coordinator: the driver first, everything else while it starts."""

from __future__ import annotations

import os
import sys

from executor_shim.coordinator.launch import Launcher
from executor_shim.coordinator.options import Options


def main() -> None:
    """Run until everything is over. `sys.argv`: ['-c', name for ps, package directory, token fd or -1, options]."""
    package, token_fd, *argv = sys.argv[2:]
    options = Options(argv)
    _keep_descriptors_from_children()
    launcher = Launcher(options, package, int(token_fd))
    pid, sock = launcher.start(1, -1)

    from executor_shim.coordinator.loop import Coordinator

    os._exit(Coordinator(launcher, options, pid, sock).run())


def _keep_descriptors_from_children() -> None:
    """Whatever the agent left open is not for task processes."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                # The descriptor of the listing itself is closed by now.
                continue


if __name__ == "__main__":
    main()
