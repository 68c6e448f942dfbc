"""What a directory takes, however it was built. Real trees, `du` as the judge."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.usage import disk
from executor_shim.driver.usage.disk import Walk, Walked

if TYPE_CHECKING:
    from pathlib import Path


def walk(top: Path, logs: str = "") -> Walked:
    result = Walk(str(top), logs).run()
    assert result is not None
    return result


def du(top: Path) -> int:
    blocks = subprocess.run(["du", "-s", "-x", "--block-size=512", str(top)], capture_output=True, check=True).stdout
    return int(blocks.split()[0]) * 512


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def test_the_same_as_du(tmp_path: Path) -> None:
    for number in range(50):
        fill(tmp_path / f"d{number % 7}" / f"e{number % 3}" / f"f{number}", number * 1000)
    result = walk(tmp_path)
    assert result.used == du(tmp_path)
    assert not result.partial
    assert result.entries == 1 + 7 + 21 + 50


def test_hard_links_are_counted_once(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "file", 100_000)
    for number in range(5):
        os.link(tmp_path / "a" / "file", tmp_path / f"link{number}")
    assert walk(tmp_path).used == du(tmp_path)


def test_links_beyond_those_that_are_remembered_count_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MAX_LINKS", 0)
    fill(tmp_path / "file", 1 << 20)
    for number in range(3):
        os.link(tmp_path / "file", tmp_path / f"link{number}")
    assert walk(tmp_path).used == du(tmp_path)


def test_sparse_files_count_what_they_take(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    assert walk(tmp_path).used < 1 << 20


def test_symbolic_links_and_loops_of_them_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    fill(tmp_path / "out", 1 << 20)
    (tmp_path / "in" / "loop").symlink_to(".")
    (tmp_path / "in" / "up").symlink_to("..")
    (tmp_path / "in" / "root").symlink_to("/")
    (tmp_path / "in" / "a").symlink_to("b")
    (tmp_path / "in" / "b").symlink_to("a")
    assert walk(tmp_path / "in").used < 1 << 20
    assert walk(tmp_path / "in").entries == 6


def test_a_depth_beyond_every_path_is_walked_with_one_descriptor(tmp_path: Path) -> None:
    depth = 3000
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 20, dir_fd=here)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    most = 0

    def rest(_seconds: float) -> bool:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return False

    before = len(os.listdir("/proc/self/fd"))
    result = Walk(str(tmp_path), rest=rest).run()
    assert result is not None
    assert (result.entries, result.partial) == (depth + 2, False)
    assert most <= before + 3
    assert len(os.listdir("/proc/self/fd")) == before
    subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 20))], check=True)


def test_deeper_than_is_remembered_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_DEPTH", 3)
    fill(tmp_path / "a" / "b" / "c" / "d" / "e", 1 << 20)
    result = walk(tmp_path)
    assert result.partial
    assert result.used < 1 << 20


def test_more_directories_than_are_remembered_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_PENDING", 10)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    assert walk(tmp_path).partial


def test_a_directory_without_rights_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root has all rights")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    assert walk(tmp_path).partial


def test_a_directory_that_is_moved_while_it_is_walked_leads_nowhere_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    fill(outside / "big", 1 << 20)
    inside = tmp_path / "inside"
    for number in range(300):
        fill(inside / "a" / "b" / f"{number}", 1)
    (inside / "a" / "b" / "below").mkdir()
    moved = False

    def rest(_seconds: float) -> bool:
        nonlocal moved
        # The second rest comes in the middle of `b`.
        if not moved and walking.result.entries > 100:
            moved = True
            (inside / "a" / "b").rename(outside / "b")
        return False

    walking = Walk(str(inside), rest=rest)
    result = walking.run()
    assert result is not None
    assert moved
    assert result.partial
    assert result.used < 3 << 20


def test_logs_are_told_by_process(tmp_path: Path) -> None:
    fill(tmp_path / ".logs" / "web" / "0" / "stdout", 100_000)
    fill(tmp_path / ".logs" / "web" / "1" / "stderr", 100_000)
    fill(tmp_path / ".logs" / "db" / "0" / "stdout", 50_000)
    fill(tmp_path / "data" / ".logs" / "no" / "file", 1 << 20)
    result = walk(tmp_path, ".logs")
    assert result.logs == {"web": du(tmp_path / ".logs" / "web"), "db": du(tmp_path / ".logs" / "db")}


def test_names_of_logs_that_cannot_be_told_and_too_many_of_them_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_MAX_LOGS", 3)
    for number in range(9):
        fill(tmp_path / ".logs" / str(number) / "x", 1)
    os.mkdir(os.fsencode(tmp_path) + b"/.logs/\xff\xfe")
    result = walk(tmp_path, ".logs")
    assert len(result.logs) == 3
    "".join(result.logs).encode()


def test_a_walk_that_nobody_wants_any_more_ends(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / str(number)).touch()
    stop = threading.Event()
    stop.set()
    assert Walk(str(tmp_path), rest=stop.wait).run() is None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_mounts_are_not_entered_not_even_binds_of_the_same_file_system(tmp_path: Path, kind: str) -> None:
    volume, top = tmp_path / "volume", tmp_path / "top"
    fill(volume / "big", 1 << 20)
    (top / "m nt").mkdir(parents=True)
    mount = ["--bind", str(volume)] if kind == "bind" else ["-t", "tmpfs", "none"]
    subprocess.run(["mount", *mount, str(top / "m nt")], check=True)
    try:
        fill(top / "m nt" / "more", 1 << 20)
        result = walk(top)
        assert result.used < 1 << 20
        assert not result.partial
    finally:
        subprocess.run(["umount", str(top / "m nt")], check=True)
