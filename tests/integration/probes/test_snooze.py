"""The snooze file: looked for before each probe, in a sandbox that belongs to the task."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from executor_shim.driver.probes import snooze
from tests.integration.probes.prober_rig import DONE, SNOOZED, TRANSIENT, Probing, probing, saying, serving, settle
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

TRUE = pb.CommandProbe(argv=["true"])


def snoozing(tmp_path: Path, test: Callable[[Probing, str, int], Any]) -> None:
    async def work(one: Probing) -> None:
        async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
            await test(one, f"{tmp_path}/sandbox/.healthchecksnooze", port)

    (tmp_path / "sandbox").mkdir()
    probing(work, str(tmp_path))


async def outcome(one: Probing, port: int, snooze_file: str = "sandbox/.healthchecksnooze", **fields: Any) -> int:
    result = await one.ask(snooze_file=snooze_file, **(fields or {"http": pb.HttpProbe(port=port)}))
    return result.outcome


def test_the_snooze_file_is_looked_for_before_each_probe(tmp_path: Path) -> None:
    async def test(one: Probing, file: str, port: int) -> None:
        assert await outcome(one, port) == DONE
        os.mknod(file)
        assert await outcome(one, port) == SNOOZED
        assert await outcome(one, port, tcp=pb.TcpProbe(port=port)) == SNOOZED
        assert await outcome(one, port, command=TRUE) == SNOOZED
        assert one.orders == []
        assert await outcome(one, port, "") == DONE
        os.unlink(file)
        assert await outcome(one, port) == DONE

    snoozing(tmp_path, test)


def test_only_a_regular_file_snoozes(tmp_path: Path) -> None:
    async def test(one: Probing, file: str, port: int) -> None:
        regular = f"{os.path.dirname(file)}/regular"
        os.mknod(regular)
        for target in ("/no/such/file", os.path.basename(file), "regular", regular):
            os.symlink(target, file)
            assert await outcome(one, port) == DONE, target
            os.unlink(file)
        os.mkfifo(file)
        assert await outcome(one, port) == DONE
        os.unlink(file)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(file)
        assert await outcome(one, port) == DONE
        os.unlink(file)
        os.mkdir(file)
        assert await outcome(one, port) == DONE
        os.rmdir(file)
        os.link(regular, file)
        assert await outcome(one, port) == SNOOZED

    snoozing(tmp_path, test)


def test_no_link_leads_out_of_the_sandbox(tmp_path: Path) -> None:
    async def test(one: Probing, file: str, port: int) -> None:
        sandbox, outside = os.path.dirname(file), f"{tmp_path}/outside"
        os.mkdir(outside)
        os.mknod(f"{outside}/.healthchecksnooze")
        os.rmdir(sandbox)
        # No sandbox/ at all, then a link, then a file in its place.
        assert await outcome(one, port) == DONE
        os.symlink(outside, sandbox)
        assert await outcome(one, port) == DONE
        assert await outcome(one, port, "sandbox/../outside/.healthchecksnooze") == DONE
        os.unlink(sandbox)
        os.mknod(sandbox)
        assert await outcome(one, port) == DONE

    snoozing(tmp_path, test)


def test_looking_costs_no_descriptor(tmp_path: Path) -> None:
    async def test(one: Probing, file: str, port: int) -> None:
        descriptors = []
        for _ in range(3):
            for path in ("sandbox/.healthchecksnooze", "sandbox/no/such/directory", "no"):
                await outcome(one, port, path, tcp=pb.TcpProbe(port=port))
            await settle(lambda: not one.prober._under_way)
            descriptors.append([fd for fd in os.listdir("/proc/self/fd") if _leads_to(fd, str(tmp_path))])
        assert descriptors == [[], [], []]

    snoozing(tmp_path, test)


def _leads_to(fd: str, directory: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(directory)
    except FileNotFoundError:
        return False


def test_a_disk_that_hangs_stops_neither_the_driver_nor_other_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snooze, "_PATIENCE", 0.2)
    monkeypatch.setattr(snooze, "_MOST", 2)
    pipe = tmp_path / "hung"
    os.mkfifo(pipe)

    def hung(_sandbox: str, _path: str) -> bool:
        with pipe.open():
            return False

    monkeypatch.setattr(snooze, "present", hung)

    async def test(one: Probing, file: str, port: int) -> None:
        why = "snooze_file: the disk of the sandbox does not answer"
        for _ in range(3):
            result = await one.ask(snooze_file="x", tcp=pb.TcpProbe(port=port))
            assert (result.outcome, result.error) == (TRANSIENT, why)
        # The third was not even put in the queue.
        assert len(one.prober._snooze._asked) == 1
        assert await outcome(one, port, "") == DONE
        # It has come back: every look opens and closes the pipe.
        writer = os.open(pipe, os.O_RDWR)
        await settle(lambda: one.prober._snooze._waiting == 0)
        assert await outcome(one, port) == DONE
        os.close(writer)

    snoozing(tmp_path, test)
