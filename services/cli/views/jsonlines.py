"""One JSON object a line on stdout, for programs; notes go to stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from services.cli.events import Event
    from services.cli.views import Launched


class JsonLines:
    """`--output json`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def launched(self, task: Launched) -> None:
        """Nothing: what a program needs of it comes with the statuses and the end."""

    def status(self, event: Event) -> None:
        """One line."""
        self._print(event)

    def process(self, event: Event) -> None:
        """One line."""
        self._print(event)

    def note(self, text: str) -> None:
        """Not an event: to stderr."""
        print(f"trivet: {text}", file=sys.stderr, flush=True)

    def end(self, event: Event) -> None:
        """The last line."""
        self._print(event)

    def close(self) -> None:
        """Every line has been flushed."""

    def _print(self, event: Event) -> None:
        print(json.dumps(event), file=self._out, flush=True)
