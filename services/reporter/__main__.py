"""`trivet-reporter`, `python -m services.reporter`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from services.common import server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from services.common.settings import Settings
    from services.reporter.service import ReporterService


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the reporter until SIGTERM or SIGINT; returns the exit status."""
    return server.run(
        sys.argv[1:] if argv is None else argv,
        name="reporter",
        description="Turns what runner and health say about tasks into Mesos task statuses.",
        build=_build,
        add_options=_add_options,
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor-lease",
        type=float,
        default=600.0,
        metavar="SECS",
        help="close the tasks of an executor that has not been heard of for so long",
    )


def _build(settings: Settings) -> ReporterService:
    from services.reporter.service import ReporterService

    return ReporterService(settings)


if __name__ == "__main__":
    sys.exit(main())
