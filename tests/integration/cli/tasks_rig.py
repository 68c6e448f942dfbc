"""`trivet` commands about the tasks of a whole stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tests.integration.faults.processes import TIMEOUT
from tests.integration.ready import readable

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


def shell(*processes: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"processes": [{"name": name, "cmdline": cmdline} for name, cmdline in processes], **more}


class Tool:
    """Runs `trivet` as an operator of this stack does."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def __call__(self, *argv: str, run_dir: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment(run_dir) | environment,
            timeout=2 * TIMEOUT,
            check=False,
        )

    def open(self, *argv: str) -> Running:
        """A command that runs for a while."""
        return Running(
            subprocess.Popen(
                [sys.executable, "-m", "services.cli", *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(None),
            )
        )

    def _environment(self, run_dir: str | None) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TRIVET_")}
        return ours | {
            "TRIVET_RUN_DIR": run_dir or self.stack.run_dir,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }


class Running:
    """A command that runs; a context manager that leaves nothing."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out = b""
        self.err = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def until(self, words: bytes, *, err: bool = False, count: int = 1) -> bytes:
        """Reads stdout or stderr until these words have come so many times; all that has come of it."""
        pipe = self.process.stderr if err else self.process.stdout
        assert pipe is not None
        deadline = time.monotonic() + TIMEOUT
        while (have := self.err if err else self.out).count(words) < count:
            assert readable(pipe.fileno(), max(deadline - time.monotonic(), 0)), (words, self.out, self.err)
            data = os.read(pipe.fileno(), 1 << 16)
            assert data, (words, have, self.process.wait(), self.out, self.err + self.process.stderr.read())  # type: ignore[union-attr]
            if err:
                self.err += data
            else:
                self.out += data
        return have

    def interrupt(self) -> int:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Reads the rest; the exit status."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        self.out += out
        self.err += err
        return self.process.returncode
