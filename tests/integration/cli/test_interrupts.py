"""Ctrl-C at any moment of a command's first and last steps: one line, a plain exit status, nothing left behind."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.effort import some
from tests.integration.cli.rig import SECS, directory, example, running_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = {"trivet: interrupted\n", "trivet: interrupted before the task was launched\n"}

# Starts the command and interrupts it when a step is reached for the first time, from within: no moment is missed.
# A step is `FILE-SUFFIX:FUNCTION`; the interrupt comes at its call, or with `-` in front at its return.
HARNESS = """
import os, signal, sys
step, argv = sys.argv[1], sys.argv[2:]
file, function = step.lstrip("-").split(":")
event = "return" if step.startswith("-") else "call"
def hook(frame, what, _arg):
    if what == event and frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file):
        sys.setprofile(None)
        os.write(3, b"!")
        os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["trivet", *argv]
from services.cli.__main__ import main
sys.setprofile(hook)
sys.exit(main())
"""

STARTS = [
    "cli/arguments.py:<module>",
    "cli/arguments.py:parse",
    "cli/run.py:<module>",
    "grpc/__init__.py:<module>",
    "-cli/__main__.py:_load",
    "cli/run.py:run",
    "cli/layout.py:make",
    "-cli/layout.py:make",
    "cli/prepare.py:prepare",
    "-cli/prepare.py:prepare",
    "-cli/layout.py:lock",
    "cli/signals.py:held_back",
    "-cli/signals.py:held_back",
    "asyncio/runners.py:run",
    "asyncio/runners.py:_lazy_init",
    "-asyncio/runners.py:_lazy_init",
    "asyncio/base_events.py:run_until_complete",
    "cli/run.py:_run",
    "cli/interrupts.py:__init__",
    "-cli/interrupts.py:__init__",
    "cli/signals.py:let_in",
    "-cli/signals.py:let_in",
    "cli/stack.py:__init__",
    "cli/stack.py:start",
    "cli/children.py:start",
]
ENDS = [
    "cli/stack.py:stop",
    "-asyncio/runners.py:run",
    "asyncio/runners.py:close",
    "asyncio/unix_events.py:remove_signal_handler",
    "-asyncio/unix_events.py:remove_signal_handler",
    "-asyncio/unix_events.py:close",
    "cli/signals.py:ignore",
    "-cli/signals.py:ignore",
    "cli/run.py:_tidy",
    "-cli/run.py:run",
    "-cli/__main__.py:main",
]


@pytest.fixture
def root() -> Iterator[str]:
    with directory() as path:
        yield path


def interrupted_at(step: str, root: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command's end; that the step was reached is asserted."""
    with tempfile.TemporaryFile() as reached:
        fd = reached.fileno()
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({fd}, 3)\n{HARNESS}", step, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECS,
            pass_fds=[fd],
            env=os.environ | {"TMPDIR": root},
            check=False,
        )
        assert os.fstat(fd).st_size == 1, f"never reached: {step}: {done.stderr}"
        return done


@pytest.mark.parametrize("step", some(STARTS))
def test_an_interrupt_before_the_launch_is_one_line_and_leaves_nothing(root: str, step: str) -> None:
    done = interrupted_at(step, root, "run", "--output", "json", example("hello"))
    assert done.stderr in LINES
    assert (done.returncode, done.stdout) == (130, "")
    assert os.listdir(root) == []


@pytest.mark.parametrize("step", some(ENDS))
def test_an_interrupt_after_the_end_changes_nothing(root: str, step: str) -> None:
    done = interrupted_at(step, root, "run", "--output", "json", example("hello"))
    assert (done.returncode, done.stderr) == (0, "")
    (kept,) = pathlib.Path(root).iterdir()
    # The sandbox alone is kept, as after every good run.
    assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize(
    "step", ["cli/up.py:<module>", "cli/up.py:up", "-cli/layout.py:lock", "asyncio/runners.py:run", "cli/up.py:_serve"]
)
def test_an_interrupt_while_services_start_has_no_traceback(root: str, step: str) -> None:
    done = interrupted_at(step, root, "up", "--dir", root)
    in_order = step in {"asyncio/runners.py:run", "cli/up.py:_serve"}
    assert done.stderr == (
        "trivet: stopping; running tasks go on without the services\n" if in_order else "trivet: interrupted\n"
    )
    assert done.returncode == (0 if in_order else 130)
    assert not running_in(root)


@pytest.mark.parametrize(
    "step", ["tasks/commands.py:<module>", "asyncio/runners.py:run", "tasks/commands.py:carry_out"]
)
def test_an_interrupt_of_a_look_at_tasks_says_nothing(root: str, step: str) -> None:
    pathlib.Path(root, "runner-admin.sock").touch()
    done = interrupted_at(step, root, "ps", "--run-dir", root)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_interrupt_that_the_caller_ignores_stays_ignored(root: str) -> None:
    # As a shell starts what it puts into the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = interrupted_at("cli/validate.py:<module>", root, "validate", example("hello"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (0, "")
