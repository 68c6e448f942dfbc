"""Command lines as Mesos' agent takes them: `--work-dir` may be written `--work_dir`; a mistake is one line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable


class FlagParser(argparse.ArgumentParser):
    """As its base, but see above."""

    def with_dashes(self, arguments: Iterable[str]) -> list[str]:
        """The arguments with known flags as this parser spells them; values stay as they are."""
        return [self._with_dashes(argument) for argument in arguments]

    def _with_dashes(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        dashed = name.replace("_", "-")
        known = name.startswith("--") and dashed in self._option_string_actions
        return dashed + equals + value if known else argument

    def error(self, message: str) -> NoReturn:
        """Without the usage, whose twenty lines would hide what is wrong."""
        print(f"{self.prog}: {message} (see --help)", file=sys.stderr)
        sys.exit(2)
