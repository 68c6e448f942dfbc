"""Words for people, shared by the plain and the live view."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.cli.events import Event

MAX_LISTED = 20


def outcome(event: Event) -> str:
    """How a run ended: `exit 3`, `SIGKILL`; empty while it has not."""
    if event["exit_code"] is not None:
        return f"exit {event['exit_code']}"
    return "" if event["signal"] is None else signal_name(event["signal"])


def signal_name(number: int) -> str:
    """`SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def status_line(event: Event) -> str:
    """`TASK_RUNNING healthy REASON_X: message`, with what there is of it."""
    words = [event["state"]]
    if event["healthy"] is not None:
        words.append("healthy" if event["healthy"] else "unhealthy")
    if event["reason"]:
        words.append(event["reason"])
    line = " ".join(words)
    return f"{line}: {printable(event['message'])}" if event["message"] else line


def printable(text: str) -> str:
    """A text from elsewhere on one line, without the terminal's control sequences."""
    return "".join(char if char.isprintable() else " " for char in text)


def log_directory(sandbox: str) -> str:
    """Where the task's processes write (Thermos: `.logs` in the task's own directory)."""
    return os.path.join(sandbox, "sandbox", ".logs")


def log_lines(sandbox: str, runs: Iterable[tuple[str, int]]) -> list[str]:
    """Lines that say where the logs are: the directory, and the files that have something in them."""
    logs = log_directory(sandbox)
    if not os.path.isdir(logs):
        # Nothing of the task was started: what there is to know is in the executor's own output.
        return [f"sandbox: {sandbox} (the executor's output is in its files stdout and stderr)"]
    found = []
    for process, run in sorted(runs):
        for stream in ("stdout", "stderr"):
            path = os.path.join(logs, process, str(run), stream)
            size = _size(path)
            if size:
                found.append(f"  {path} ({size} bytes)")
    hidden = len(found) - MAX_LISTED
    return [
        f"sandbox: {sandbox}",
        f"logs: {logs}",
        *found[:MAX_LISTED],
        *([f"  and {hidden} more"] if hidden > 0 else []),
    ]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
