"""Processes of the stack: real processes that die, refuse to start, refuse to stop, and lose their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from services.cli.children import Child, StackFailed
from tests.integration.ready import readable

if TYPE_CHECKING:
    import pathlib
    from collections.abc import AsyncIterator

SECS = 20.0


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A module `victim` that each test writes; it reports its starts through a FIFO, one pid a line."""
    os.mkfifo(tmp_path / "starts")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "victim.py"


def write(module: pathlib.Path, body: str) -> None:
    report = "import os, signal, sys\nwith open(sys.argv[1], 'w') as fifo:\n    fifo.write(f'{os.getpid()}\\n')\n"
    module.write_text(textwrap.dedent(report) + textwrap.dedent(body))


async def starts(fifo: pathlib.Path) -> AsyncIterator[int]:
    """Pids in the order of the starts; the FIFO is held open, so writers come and go."""
    reader = asyncio.StreamReader()
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    try:
        while True:
            line = await asyncio.wait_for(reader.readline(), SECS)
            yield int(line)
    finally:
        transport.close()


def child(module: pathlib.Path, notes: list[str]) -> Child:
    parent = module.parent
    return Child("victim", [str(parent / "starts")], log=str(parent / "log"), note=notes.append)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_is_killed_is_started_again_and_stops_in_order(module: pathlib.Path) -> None:
    write(module, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('up', flush=True)\nsignal.pause()\n")
    notes: list[str] = []

    async def play() -> list[int]:
        victim = child(module, notes)
        keeper = victim.start()
        victim.ready = True
        pids = []
        async for pid in starts(module.parent / "starts"):
            pids.append(pid)
            if len(pids) == 6:
                break
            os.kill(pid, signal.SIGKILL)
        await victim.stop()
        assert keeper.done()
        return pids

    pids = asyncio.run(play())
    assert len(set(pids)) == 6
    assert not any(alive(pid) for pid in pids)
    assert notes[0] == "victim died (SIGKILL), it is started again"
    assert notes[1] == "victim died (SIGKILL), it is started again in 0.1 s"
    assert len(notes) == 5


def test_a_process_that_never_starts_fails_with_the_end_of_its_log(module: pathlib.Path) -> None:
    write(module, "sys.exit('no such option: --wrong')\n")

    async def play() -> None:
        reading = starts(module.parent / "starts")
        victim = child(module, [])
        keeper = victim.start()
        for _ in range(5):
            await anext(reading)
        with pytest.raises(StackFailed, match=r"victim does not start: exit status 1;(.|\n)*no such option: --wrong"):
            await asyncio.wait_for(keeper, SECS)
        await victim.stop()
        await reading.aclose()  # type: ignore[attr-defined]

    asyncio.run(play())


def test_a_process_that_ignores_sigterm_is_killed(module: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.children._STOP_SECS", 0.2)
    # Ignored before the report, so that the stop cannot come too early.
    module.write_text(
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()}\\n')\n"
        "while True:\n    signal.pause()\n"
    )
    notes: list[str] = []

    async def play() -> int:
        reading = starts(module.parent / "starts")
        victim = child(module, notes)
        victim.start()
        pid = await anext(reading)
        await victim.stop()
        await reading.aclose()  # type: ignore[attr-defined]
        return pid

    assert not alive(asyncio.run(play()))
    assert notes == ["victim does not stop, it is killed"]


def test_a_stop_that_comes_before_the_process_has_started_leaves_nothing(module: pathlib.Path) -> None:
    write(module, "signal.pause()\n")

    async def play() -> None:
        victim = child(module, [])
        victim.start()
        await victim.stop()

    asyncio.run(play())
    assert not subprocess.run(["pgrep", "-f", str(module.parent)], capture_output=True, check=False).stdout


def test_processes_do_not_outlive_a_killed_parent(module: pathlib.Path) -> None:
    write(module, "signal.pause()\n")
    script = textwrap.dedent(
        """
        import asyncio, sys
        from services.cli.children import Child
        async def main():
            Child("victim", sys.argv[1:2], log=sys.argv[2], note=print).start()
            await asyncio.Event().wait()
        asyncio.run(main())
        """
    )
    parent = module.parent
    fifo = os.open(parent / "starts", os.O_RDWR)
    keeper = subprocess.Popen([sys.executable, "-c", script, str(parent / "starts"), str(parent / "log")])
    try:
        assert readable(fifo, SECS)
        pidfd = os.pidfd_open(int(os.read(fifo, 64)))
        keeper.kill()
        assert readable(pidfd, SECS), "the process still lives"
        os.close(pidfd)
    finally:
        keeper.kill()
        keeper.wait()
        os.close(fifo)
