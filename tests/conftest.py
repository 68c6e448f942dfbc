"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import examples

# Before anything imports them: rigs and doubles say what was compared as tests do.
pytest.register_assert_rewrite("tests.conformance", "tests.integration", "tests.unit")

# Tests share their machine with others: how long an example takes says nothing about the code.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples(160)
)
settings.load_profile("shared machine")
