"""How much trouble tests take: by default a quarter of the examples, and nothing that shows the same thing at length.

All of it with `make test TRIVET_TESTS=thorough`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
THOROUGH = os.environ.get("TRIVET_TESTS") == "thorough"


def examples(number: int) -> int:
    """Examples of a property test that takes `number` of them when it is thorough."""
    return number if THOROUGH else max(number // 4, 10)


def some(cases: Sequence[T]) -> Sequence[T]:
    """Every fourth of many cases of one kind; all when tests are thorough."""
    return cases if THOROUGH else cases[::4]


at_length = pytest.mark.skipif(not THOROUGH, reason="at length: with TRIVET_TESTS=thorough")
"""For what a shorter test shows as well."""
