"""Somebody's project with an executor and tests, for tests of the pytest plugin."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

from services.local_agent.containers.process_tree import read_table

ROOT = pathlib.Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "foreign_executor"
OBEDIENT = ROOT / "tests" / "integration" / "obedient_executor.py"
SECS = 120.0


class Project:
    """A directory with somebody's executor and tests."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        shutil.copy(OBEDIENT, path / "executor.py")

    def write(self, text: str, name: str = "test_mine.py") -> None:
        (self.path / name).write_text(textwrap.dedent(text))

    def command(self, *argv: str) -> list[str]:
        # By name, so that it is there whether the entry point of this checkout is installed or not.
        return [sys.executable, "-m", "pytest", "-p", "pytest_trivet", "-p", "no:cacheprovider", *argv]

    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        path = [f"{ROOT}", f"{ROOT}/build/generated"]
        return clean | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}

    def run(self, *argv: str) -> tuple[dict[str, int], str]:
        """Runs the tests; how many passed, failed and had errors, and all that was printed."""
        done = subprocess.run(
            self.command(*argv),
            capture_output=True,
            text=True,
            cwd=self.path,
            env=self.environment(),
            timeout=SECS,
            check=False,
        )
        lines = (done.stdout + done.stderr).splitlines()
        counts = {
            word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?)", lines[-1])
        }
        return counts, "\n".join(lines)


def alive(words: str) -> list[str]:
    """Command lines of living processes with these words in them."""
    found = []
    for row in read_table():
        try:
            line = pathlib.Path(f"/proc/{row.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and row.state not in "ZX" and row.pid != os.getpid():
            found.append(line)
    return found
