"""A live picture of the task on a terminal: processes above, status updates below."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.views.texts import log_directory, log_lines, outcome, printable, status_line

if TYPE_CHECKING:
    from services.cli.events import Event
    from services.cli.views import Launched

_COLOURS = {
    "WAITING": "dim",
    "FORKED": "cyan",
    "RUNNING": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "KILLED": "yellow",
    "LOST": "red",
    "TASK_FINISHED": "green",
    "TASK_KILLED": "yellow",
    "TASK_STARTING": "dim",
    "TASK_RUNNING": "cyan",
}
_MAX_STATUSES = 12
_REFRESHES_PER_SECOND = 5


@dataclass(slots=True)
class _Row:
    """The newest run of one process; times on the monotonic clock."""

    run: int
    state: str
    pid: int | None
    outcome: str
    since: float | None = None
    until: float | None = None

    def seconds(self, now: float) -> str:
        """How long the run has taken so far."""
        return "" if self.since is None else f"{(self.until or now) - self.since:.1f} s"


class LiveView:
    """`--output live`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._task: Launched | None = None
        self._rows: dict[str, _Row] = {}
        self._runs: set[tuple[str, int]] = set()
        self._statuses: list[tuple[str, Event]] = []
        self._notes: list[str] = []
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_SECOND)
        self._live.start()

    def launched(self, task: Launched) -> None:
        """Heads the picture."""
        self._task = task
        self._live.refresh()

    def status(self, event: Event) -> None:
        """Adds a line below the processes."""
        self._statuses = [*self._statuses, (time.strftime("%H:%M:%S"), event)]
        self._live.refresh()

    def process(self, event: Event) -> None:
        """Changes the process's row; a new run takes the place of the old one."""
        now = time.monotonic()
        old = self._rows.get(event["process"])
        row = _Row(event["run"], event["state"], event["pid"], outcome(event))
        if old is not None and old.run == row.run:
            row.since = old.since
        if event["state"] == "RUNNING":
            row.since = now
        elif event["state"] not in ("WAITING", "FORKED"):
            row.until = now
        # A new dictionary each time: the refreshing thread may be walking over the old one.
        self._rows = self._rows | {event["process"]: row}
        self._runs.add((event["process"], event["run"]))
        self._live.refresh()

    def note(self, text: str) -> None:
        """Adds a line at the bottom."""
        self._notes = [*self._notes, text][-5:]
        self._live.refresh()

    def end(self, event: Event) -> None:
        """Leaves the last picture, and says below it where the logs are."""
        self.close()
        state = event["state"]
        self._console.print(Text(state, style=f"bold {_COLOURS.get(state, 'red')}"))
        for line in log_lines(self._task.sandbox if self._task else event["sandbox"], self._runs):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stops the refreshing; the terminal is as it was."""
        self._live.stop()

    def _render(self) -> Group:
        parts: list[Table | Text] = []
        if self._task is None:
            parts.append(Text("starting the stack ...", style="dim"))
        else:
            ports = "".join(f"  {name}={number}" for name, number in sorted(self._task.ports.items()))
            parts.append(Text(f"{self._task.task_id}{ports}", style="bold"))
        if self._rows:
            parts.append(self._processes())
        for clock, event in self._statuses[-_MAX_STATUSES:]:
            colour = _COLOURS.get(event["state"], "red")
            parts.append(Text.assemble((f"{clock} ", "dim"), (status_line(event), colour)))
        if self._task is not None:
            parts.append(Text(f"logs {log_directory(self._task.sandbox)}", style="dim", overflow="fold"))
        parts.extend(Text(note, style="yellow") for note in self._notes)
        return Group(*parts)

    def _processes(self) -> Table:
        now = time.monotonic()
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for column in ("process", "run", "state", "pid", "ended", "time"):
            table.add_column(column)
        # The newest rows when there are more than the terminal has lines; live regions cannot scroll.
        room = max(3, self._console.size.height - _MAX_STATUSES - 6)
        rows = list(self._rows.items())
        if len(rows) > room:
            table.title = f"{len(rows) - room} more above"
        for name, row in rows[-room:]:
            state = Text(row.state, style=_COLOURS.get(row.state, ""))
            pid = str(row.pid) if row.pid and row.until is None else ""
            table.add_row(Text(printable(name)), str(row.run), state, pid, row.outcome, row.seconds(now))
        return table
