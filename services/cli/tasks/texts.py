"""Words, numbers and tables for people; names of the protocol's numbers."""

from __future__ import annotations

import math
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from services.cli.views.texts import outcome, printable
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.cli.events import Event

OVER = frozenset(
    {
        link_pb2.TASK_PHASE_SUCCESS,
        link_pb2.TASK_PHASE_FAILED,
        link_pb2.TASK_PHASE_KILLED,
        link_pb2.TASK_PHASE_LOST,
    }
)
LIVE = frozenset({runner_pb2.PROCESS_STATE_FORKED, runner_pb2.PROCESS_STATE_RUNNING})
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def phase_name(phase: int) -> str:
    """`ACTIVE`; a number that this version does not know as it stands."""
    return _name(link_pb2.TaskPhase, phase, "TASK_PHASE_")


def cause_name(cause: int) -> str:
    """`KILL`."""
    return _name(link_pb2.EndCause, cause, "END_CAUSE_")


def state_name(state: int) -> str:
    """`RUNNING`, of a process."""
    return _name(runner_pb2.ProcessState, state, "PROCESS_STATE_")


def _name(enum: Any, number: int, prefix: str) -> str:
    try:
        name: str = enum.Name(number)
    except ValueError:
        return str(number)
    return name.removeprefix(prefix)


def ending(run: runner_pb2.ProcessRun) -> str:
    """How a run ended: `exit 3`, `SIGKILL`; empty while it has not."""
    exit_ = run.exit
    event: Event = {
        "exit_code": exit_.code if exit_.HasField("code") else None,
        "signal": exit_.signal if exit_.HasField("signal") else None,
    }
    return outcome(event) + (" (core dumped)" if exit_.core_dumped else "")


def seconds(value: float) -> str:
    """A span of time in at most two units: `0.4s`, `12s`, `3m05s`, `2h07m`, `4d03h`."""
    value = max(value, 0.0)
    if value < 10:
        return f"{math.floor(value * 10) / 10:.1f}s"
    whole = int(value)
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def since(at: float, now: float) -> str:
    """How long ago; `-`: never."""
    return seconds(now - at) if at else "-"


def moment(at: float) -> str:
    """Wall clock in local time; `-`: never."""
    if not at:
        return "-"
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
    except (OverflowError, OSError, ValueError):
        return f"@{at:g}"


def clock(at: float) -> str:
    """The time of the day, with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"


def size(number: int) -> str:
    """Bytes in the largest unit that leaves a whole number: `12.3 MiB`."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def number_of(count: int, one: str, many: str) -> str:
    """`1 process`, `2 processes`."""
    return f"{count} {one if count == 1 else many}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table. Cells come from tasks: nothing in them reaches the terminal as a control sequence."""
    cells = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def colourful(stream: TextIO) -> bool:
    """Whether colours are of use there."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
