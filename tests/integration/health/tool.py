"""`trivet` commands as an operator of this health service gives them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.integration.cli.tasks_rig import Running
from tests.integration.health.double import PATIENCE

if TYPE_CHECKING:
    from tests.integration.health.double import HealthProcess


class Said(NamedTuple):
    """What a command has said."""

    status: int
    out: str
    err: str


class Tool:
    """`await tool("health", "t")`."""

    def __init__(self, health: HealthProcess) -> None:
        self._run_dir = f"{health.directory}/run"

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TRIVET_")}
        return ours | {"TRIVET_RUN_DIR": self._run_dir, "PYTHONPATH": os.getcwd()}

    async def __call__(self, *argv: str) -> Said:
        """A command to its end; the loop goes on meanwhile, with the drivers on it."""
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", *argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(),
        )
        out, err = await asyncio.wait_for(command.communicate(), PATIENCE)
        assert command.returncode is not None
        return Said(command.returncode, out.decode(), err.decode())

    def open(self, *argv: str) -> Running:
        """A command that runs for a while."""
        return Running(
            subprocess.Popen(
                [sys.executable, "-m", "services.cli", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
            )
        )
