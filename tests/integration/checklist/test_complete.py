"""Every item of the checklist has a test, or a reason."""

from __future__ import annotations

import re
from pathlib import Path

ITEMS = range(1, 41)
REASONS = {
    40: "the executor asks for protobuf (item 3), so it never sees how the agent prints JSON",
}
_NAME = re.compile(r"^(?:async )?def test_((?:\d\d_)+)\w+\(", re.MULTILINE)


def numbered() -> dict[int, list[str]]:
    """Item -> its tests."""
    found: dict[int, list[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for match in _NAME.finditer(path.read_text()):
            for number in match[1].strip("_").split("_"):
                found.setdefault(int(number), []).append(match[0])
    return found


def test_every_item_has_a_test_or_a_reason() -> None:
    tested = set(numbered())
    assert tested | set(REASONS) == set(ITEMS)
    assert tested.isdisjoint(REASONS)
