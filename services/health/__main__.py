"""`trivet-health`."""

from __future__ import annotations

import sys

from services.common import server
from services.health.service import HealthService, add_options


def main() -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    return server.run(
        sys.argv[1:],
        name="health",
        description="Decides when Trivet's tasks are probed, and what the results mean.",
        build=HealthService,
        add_options=add_options,
    )


if __name__ == "__main__":
    sys.exit(main())
