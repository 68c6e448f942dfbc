"""What is wrong or remarkable in a task, each with the place in the user's document."""

from __future__ import annotations

import itertools
import json
import re

_PLAIN_KEY = re.compile(r"[\w-]{1,64}")
_MAX_FINDINGS = 100
_MAX_QUOTED = 80


class InvalidTask(ValueError):
    """A task that must not be started.

    `violations` has one entry for each broken rule (`task.processes[2].cmdline: is required`), `aurora` says whether
    the data had the form of an Aurora job: that decides between FAILED and ERROR. The error's text is one line.
    """

    def __init__(self, violations: list[str], aurora: bool = False) -> None:
        super().__init__("; ".join(violations))
        self.violations = violations
        self.aurora = aurora

    def __reduce__(self) -> tuple[type[InvalidTask], tuple[list[str], bool]]:
        return type(self), (self.violations, self.aurora)


def at(path: str, *keys: str | int) -> str:
    """Path of a member: `a.b` for a name, `a[3]` for an index. Names that are not plain are quoted."""
    for key in keys:
        if isinstance(key, int):
            path = f"{path}[{key}]"
        else:
            name = key if _PLAIN_KEY.fullmatch(key) and key.isascii() else quoted(key)
            path = f"{path}.{name}" if path else name
    return path


def quoted(text: str) -> str:
    """A user's text inside a message: one line, printable ASCII, of bounded length."""
    if len(text) > _MAX_QUOTED:
        text = text[: _MAX_QUOTED - 3] + "..."
    return json.dumps(text)


class Findings:
    """Collects violations and warnings; what is found later at a place with violations is a consequence: left out."""

    def __init__(self) -> None:
        self._violations: dict[str, tuple[str, ...]] = {}
        self._warnings: list[str] = []

    def violation(self, path: str, *texts: str) -> None:
        """Records what is wrong at `path` (empty: the whole document); nothing when there are no texts."""
        if texts:
            self._violations.setdefault(path, tuple(f"{path}: {text}" if path else text for text in texts))

    def warning(self, path: str, text: str) -> None:
        """Records something that is accepted and may surprise."""
        self._warnings.append(f"{path}: {text}" if path else text)

    def violated(self, path: str) -> bool:
        """Whether a violation at exactly this place is known."""
        return path in self._violations

    @property
    def violations(self) -> list[str]:
        """All violations in the order in which they were found, bounded: a hostile task may break a million rules."""
        return _bounded(list(itertools.chain.from_iterable(self._violations.values())))

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings in the order in which they were found, bounded likewise."""
        return tuple(_bounded(self._warnings))


def _bounded(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_FINDINGS:
        return list(lines)
    return [*lines[:_MAX_FINDINGS], f"and {len(lines) - _MAX_FINDINGS} more"]
