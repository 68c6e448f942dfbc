"""One line a transition, for pipes and log files."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from services.cli.views.texts import log_lines, outcome, printable, status_line

if TYPE_CHECKING:
    from services.cli.events import Event
    from services.cli.views import Launched


class Plain:
    """`--output plain`, and what a pipe gets."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._task = ""
        self._sandbox = ""
        self._runs: set[tuple[str, int]] = set()

    def launched(self, task: Launched) -> None:
        """Says what was launched and where it can be looked at."""
        self._task = task.task_id
        self._sandbox = task.sandbox
        ports = "".join(f" {name}={number}" for name, number in sorted(task.ports.items()))
        self._print(f"task {task.task_id} launched" + (f", ports{ports}" if ports else ""))
        self._print(f"sandbox {task.sandbox}")
        self._print(f"logs of the stack {task.stack_logs}")

    def status(self, event: Event) -> None:
        """`status TASK_RUNNING ...`."""
        self._print(f"status {status_line(event)}")

    def process(self, event: Event) -> None:
        """`process NAME run N STATE ...`."""
        self._runs.add((event["process"], event["run"]))
        words = [f"process {printable(event['process'])} run {event['run']} {event['state']}"]
        if event["pid"] is not None and not outcome(event):
            words.append(f"pid {event['pid']}")
        self._print(" ".join([*words, outcome(event)]).rstrip())

    def note(self, text: str) -> None:
        """Not the task's: to stderr."""
        print(f"trivet: {text}", file=sys.stderr, flush=True)

    def end(self, event: Event) -> None:
        """How the task ended and where its logs are."""
        self._print(f"task {self._task} ended: {event['state']}")
        for line in log_lines(self._sandbox or event["sandbox"], self._runs):
            print(line, file=self._out, flush=True)

    def close(self) -> None:
        """Every line has been flushed."""

    def _print(self, text: str) -> None:
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        print(f"{clock}.{int(now % 1 * 1000):03d} {text}", file=self._out, flush=True)
