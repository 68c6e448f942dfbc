"""`kill -9` of one part at each stage of a task: nobody can tell afterwards."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import wait_dead
from tests.integration.faults.stack import SERVICES
from tests.integration.faults.staged import STAGES, StagedTask, kill_part

if TYPE_CHECKING:
    from tests.integration.faults.stack import Stack


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("victim", [*SERVICES, "driver"])
def test_a_killed_part_changes_nothing(stack: Stack, victim: str, stage: str) -> None:
    StagedTask(stack).live(kill_part(victim), stage)


@pytest.mark.parametrize("stage", STAGES)
def test_three_drivers_killed_in_a_row_change_nothing(stack: Stack, stage: str) -> None:
    def strike(staged: StagedTask) -> None:
        for _ in range(3):
            pid = staged.task.driver()
            os.kill(pid, signal.SIGKILL)
            wait_dead(pid)

    StagedTask(stack).live(strike, stage)


def test_everything_but_the_coordinator_killed_at_once_changes_nothing(stack: Stack) -> None:
    def strike(staged: StagedTask) -> None:
        driver = staged.task.driver()
        for name in SERVICES:
            stack.parts[name].kill()
        os.kill(driver, signal.SIGKILL)
        for name in SERVICES:
            stack.parts[name].start()

    StagedTask(stack).live(strike, "running")
