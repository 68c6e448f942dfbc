"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Tests share their machine with others: how long an example takes says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
