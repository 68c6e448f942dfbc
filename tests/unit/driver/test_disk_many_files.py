"""A sandbox with a very great number of files: measured whole, at a bounded cost."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.usage.disk import Walk
from tests.effort import THOROUGH

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = 200_000 if THOROUGH else 50_000
LINKS = 1_000


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All in one directory, as a runaway cache has them, some of them under two names."""
    # In memory where there is such a place: on a disk to make them takes a minute.
    memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(dir=memory)) if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("crowded")
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(FILES):
        os.mknod(f"{number}", 0o600, dir_fd=directory)
    for number in range(LINKS):
        os.link(f"{number}", f"link{number}", src_dir_fd=directory, dst_dir_fd=directory)
    with open(top / "0", "wb") as file:
        file.write(bytes(100_000))
    yield top
    os.close(directory)
    shutil.rmtree(top)


def test_all_of_them_are_counted_and_half_of_the_time_is_rest(crowded: Path) -> None:
    rests: list[float] = []

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return False

    begun, cpu = time.monotonic(), time.thread_time()
    walked = Walk(str(crowded), "", rest).run()
    took, cpu = time.monotonic() - begun, time.thread_time() - cpu
    assert walked is not None
    assert (walked.entries, walked.partial) == (1 + FILES + LINKS, False)
    assert walked.used >= 100_000
    # One rest after each 256 entries, each as long as they took: the thread has half of a core at most.
    assert len(rests) == walked.entries // 256
    assert sum(rests) > 0.9 * took
    # Some 5 microseconds an entry here; ten times that would be another algorithm.
    assert cpu < 50e-6 * FILES


def test_memory_does_not_grow_with_the_number_of_files(crowded: Path) -> None:
    tracemalloc.start()
    try:
        walked = Walk(str(crowded)).run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert walked is not None
    assert walked.entries > FILES
    assert peak < 1 << 20


def test_a_walk_that_nobody_wants_any_more_ends_within_256_entries(crowded: Path) -> None:
    assert Walk(str(crowded), "", lambda _: True).run() is None
    looked: list[int] = []

    def rest(_: float) -> bool:
        looked.append(walk.result.entries)
        return len(looked) == 3

    walk = Walk(str(crowded), "", rest)
    assert walk.run() is None
    assert looked == [256, 512, 768]
    assert walk.result.entries <= 768 + 1
