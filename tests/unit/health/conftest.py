"""The book's world, for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.health.world import DriverDouble, World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="world")
def make_world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(name="driver")
def make_driver(world: World) -> DriverDouble:
    driver = DriverDouble(world)
    driver.attach()
    return driver
