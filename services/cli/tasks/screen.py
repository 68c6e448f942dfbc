"""A page that is shown again and again: in place on a terminal, one below the other elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.cli.views.texts import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Screen:
    """A context manager; afterwards the terminal is as it was, with the last page on it."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, lines: Sequence[str]) -> None:
        """Replaces the page; what does not fit is left out at the bottom, and said."""
        if self._live is None:
            print("\n".join([*lines, ""]), flush=True)
            return
        room = max(self._console.size.height - 2, 3)
        shown = [printable(line) for line in lines[:room]]
        if len(lines) > room:
            shown.append(f"... and {len(lines) - room} more lines")
        self._live.update(Text("\n".join(shown), no_wrap=True, overflow="ellipsis"), refresh=True)
