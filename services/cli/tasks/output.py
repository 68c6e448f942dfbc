"""Where the bytes of logs go: unchanged from one process, line by line with a prefix from several."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TextIO

from services.cli.tasks.texts import colourful
from services.cli.views.texts import printable
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAMS = {"stdout": runner_pb2.LOG_STREAM_STDOUT, "stderr": runner_pb2.LOG_STREAM_STDERR}

# A line that is longer is shown in pieces: a process may never end one.
MAX_LINE = 64 << 10
_MARKS = {"stdout": "|", "stderr": "!"}
# Of the terminal's sixteen: those that are readable on black and on white.
_COLOURS = (36, 33, 32, 35, 34, 31)
# Everything that moves the cursor or tells the terminal to do something; not: tab, line feed, colours (SGR). The bytes
# 0x80 to 0x9f are parts of UTF-8 characters.
_CONTROL = re.compile(rb"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


class Sink:
    """Where one log goes."""

    def __init__(self, stream: TextIO, prefix: bytes) -> None:
        self._stream = stream
        self._prefix = prefix
        self._terminal = stream.isatty()
        self._line = b""

    def write(self, data: bytes) -> None:
        """Shows the next bytes."""
        if not self._prefix:
            self._put(data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        while len(self._line) > MAX_LINE:
            lines.append(self._line[:MAX_LINE])
            self._line = self._line[MAX_LINE:]
        if lines:
            self._put(b"".join(self._prefix + line + b"\n" for line in lines))

    def flush(self) -> None:
        """Shows what has not been ended by a line feed, and ends it."""
        if self._line:
            line, self._line = self._line, b""
            self._put(self._prefix + line + b"\n")

    def _put(self, data: bytes) -> None:
        if self._terminal:
            data = _CONTROL.sub(b"?", data.replace(b"\r\n", b"\n"))
        # What print() holds back would come behind it.
        self._stream.flush()
        self._stream.buffer.write(data)
        self._stream.buffer.flush()


class Output:
    """stdout and stderr of this command."""

    def __init__(self, processes: Sequence[str]) -> None:
        """`processes`: all whose logs may come; with more than one each line says whose it is."""
        self._numbers = {name: number for number, name in enumerate(processes)}

    def sink(self, process: str, run: int, stream: str, *, to_stdout: bool) -> Sink:
        """Where a log goes.

        Args:
            process: whose it is.
            run: and of which run.
            stream: stdout or stderr.
            to_stdout: also stderr goes to stdout.
        """
        target = sys.stdout if to_stdout or stream == "stdout" else sys.stderr
        if len(self._numbers) <= 1:
            return Sink(target, b"")
        label = f"{printable(process)}/{run} {_MARKS[stream]}"
        if colourful(target):
            label = f"\x1b[{_COLOURS[self._numbers.get(process, 0) % len(_COLOURS)]}m{label}\x1b[0m"
        return Sink(target, f"{label} ".encode())
