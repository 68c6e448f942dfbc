"""Watches on real files: each tells once, and exactly of the file that was opened."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.logs.watch import NoWatch, Watches

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 20.0


class Place:
    """A file and its directory, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path / "log"
        self.path.touch()
        self.fd = os.open(self.path, os.O_RDONLY)
        self.directory = os.open(path, os.O_RDONLY)

    def append(self) -> None:
        with self.path.open("ab") as file:
            file.write(b"x")


async def told(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE)


def test_growth_renaming_cutting_off_and_a_new_file_are_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        place, watches, event = Place(tmp_path), Watches(), asyncio.Event()
        for change in (
            place.append,
            lambda: os.truncate(place.path, 0),
            lambda: place.path.rename(tmp_path / "log.1"),
            place.path.touch,
        ):
            event.clear()
            watches.arm(place.fd, place.directory, event)
            assert not event.is_set()
            change()
            await told(event)
        watches.close()

    asyncio.run(scenario())


def test_several_readers_of_one_file_are_all_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        place, watches = Place(tmp_path), Watches()
        events = [asyncio.Event() for _ in range(5)]
        for event in events:
            watches.arm(place.fd, place.directory, event)
        watches.disarm(events[0])
        place.append()
        for event in events[1:]:
            await told(event)
        assert not events[0].is_set()
        watches.close()

    asyncio.run(scenario())


def test_a_process_that_writes_without_end_wakes_nobody_who_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        place, watches, event, wakes = Place(tmp_path), Watches(), asyncio.Event(), 0
        watches.arm(place.fd, place.directory, event)
        loop = asyncio.get_running_loop()
        read = watches._readable

        def counting() -> None:
            nonlocal wakes
            wakes += 1
            read()

        loop.add_reader(watches._fd, counting)
        for _ in range(1000):
            place.append()
            (tmp_path / "other").touch()
            (tmp_path / "other").unlink()
            await asyncio.sleep(0)
        await told(event)
        assert wakes <= 3
        watches.close()

    asyncio.run(scenario())


def test_without_an_instance_the_setting_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        place, watches = Place(tmp_path), Watches()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(place.fd)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with pytest.raises(NoWatch, match=r"fs\.inotify\.max_user_instances"):
                watches.arm(place.fd, place.directory, asyncio.Event())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        event = asyncio.Event()
        watches.arm(place.fd, place.directory, event)
        place.append()
        await told(event)
        watches.close()

    asyncio.run(scenario())
