"""`trivet-runner`."""

from __future__ import annotations

import sys

from services.common.server import run
from services.runner.service import RunnerProcess, add_options


def main() -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    return run(
        sys.argv[1:],
        name="runner",
        description="Validates, plans and runs tasks through the drivers of this host's executors.",
        build=RunnerProcess,
        add_options=add_options,
    )


if __name__ == "__main__":
    sys.exit(main())
