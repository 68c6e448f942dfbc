"""Which cgroup hierarchies this machine has: the text of /proc/self/mountinfo, read without I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROLLERS_V1 = frozenset({"freezer", "cpu", "cpuacct", "memory", "pids"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """Where a hierarchy is mounted."""

    path: str
    read_only: bool


@dataclass(frozen=True)
class Mounts:
    """`v1`: by controller. `v2`: the unified hierarchy, if it is mounted."""

    v1: Mapping[str, Mount]
    v2: Mount | None


def parse(mountinfo: str) -> Mounts:
    """Of a hierarchy that is mounted more than once the first writable mount counts.

    A later mount on the same directory hides the earlier one.
    """
    v1: dict[str, Mount] = {}
    v2: Mount | None = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        options, super_options = fields[5].split(","), kind[2].split(",")
        mount = Mount(_unescape(fields[4]), "ro" in options or "ro" in super_options)
        if kind[0] == "cgroup2":
            v2 = _better(v2, mount)
        elif kind[0] == "cgroup":
            for controller in CONTROLLERS_V1.intersection(super_options):
                v1[controller] = _better(v1.get(controller), mount)
    return Mounts(v1, v2)


def _better(old: Mount | None, new: Mount) -> Mount:
    return new if old is None or old.path == new.path or (old.read_only and not new.read_only) else old


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
