"""A service that comes back without its state adopts what the driver tells it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.stack import SERVICES
from tests.integration.faults.staged import STAGES, StagedTask

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("victim", SERVICES)
def test_a_service_that_lost_its_state_changes_nothing(stack: Stack, victim: str, stage: str) -> None:
    def strike(staged: StagedTask) -> None:
        part = staged.stack.parts[victim]
        part.kill()
        shutil.rmtree(f"{stack.dir}/state/{victim}")
        part.start()
        stack.ready(victim)

    StagedTask(stack).live(strike, stage)
