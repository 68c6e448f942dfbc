"""Cgroups without a kernel: mount table, limits as values of files, texts. A fake cgroupfs is a plain directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.containers import isolation, resources
from services.local_agent.containers.cgroups import group, host, limits, mounts
from services.local_agent.containers.cgroups.limits import Limits, MemoryUse
from services.local_agent.containers.cgroups.mounts import Mount, Mounts
from services.local_agent.containers.cgroups.v1 import GroupV1
from services.local_agent.containers.cgroups.v2 import GroupV2
from services.local_agent.containers.contract import LauncherUnavailable

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1 << 20
MOUNTINFO = r"""
24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 / /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
32 24 0:28 / /with\040blank rw - cgroup cgroup rw,freezer
33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
35 24 0:27 / /elsewhere/memory rw - cgroup cgroup rw,memory
garbage
"""


def test_the_mount_table_tells_where_hierarchies_are() -> None:
    found = mounts.parse(MOUNTINFO)
    assert found.v2 == Mount("/sys/fs/cgroup/unified", read_only=False)
    assert found.v1 == {
        "cpu": Mount("/sys/fs/cgroup/cpu,cpuacct", read_only=False),
        "cpuacct": Mount("/sys/fs/cgroup/cpu,cpuacct", read_only=False),
        "freezer": Mount("/with blank", read_only=False),
        # Read-only in the first place.
        "memory": Mount("/elsewhere/memory", read_only=False),
    }


def test_a_mount_over_a_mount_hides_it() -> None:
    line = "40 24 0:28 / /with\\040blank ro - cgroup cgroup rw,freezer\n"
    assert mounts.parse(MOUNTINFO + line).v1["freezer"].read_only


@given(st.text())
def test_no_mount_table_is_too_strange(text: str) -> None:
    mounts.parse(text)


def _flags(
    version: str = "auto", words: str = "cgroups/cpu,cgroups/mem", *, cfs: bool = False
) -> isolation.LauncherFlags:
    return isolation.LauncherFlags("linux", isolation.parse(words, "linux"), "r", version, enable_cfs=cfs)


def _v1(directory: Path, *, read_only: bool = False) -> Mounts:
    names = ("freezer", "cpu", "cpuacct", "memory")
    return Mounts({name: Mount(str(directory / name), read_only) for name in names}, None)


def _v2(directory: Path, controllers: str = "cpuset cpu memory pids") -> Mounts:
    (directory / "cgroup.controllers").write_text(controllers + "\n")
    return Mounts({}, Mount(str(directory), read_only=False))


def test_version_1_where_all_is_mounted_else_version_2(tmp_path: Path) -> None:
    both = Mounts(_v1(tmp_path).v1, _v2(tmp_path).v2)
    assert isinstance(host.choose(_flags(), both), host.HostV1)
    assert isinstance(host.choose(_flags("2"), both), host.HostV2)
    assert isinstance(host.choose(_flags(words="cgroups/pids"), both), host.HostV2)
    assert isinstance(host.choose(_flags(), _v2(tmp_path)), host.HostV2)
    assert isinstance(host.choose(_flags(words=""), _v2(tmp_path, "")), host.HostV2)


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        (_flags(), "version 1: no hierarchy with freezer, cpu, cpuacct, memory is mounted; version 2: not mounted"),
        (_flags("1"), "version 1: no hierarchy with freezer"),
        (_flags("2"), "version 2: not mounted"),
    ],
)
def test_what_is_not_mounted_is_named(flags: isolation.LauncherFlags, missing: str) -> None:
    with pytest.raises(LauncherUnavailable) as refused:
        host.choose(flags, Mounts({}, None))
    assert missing in str(refused.value)
    assert "--launcher=posix" in str(refused.value)


def test_controllers_that_version_2_does_not_have_are_named(tmp_path: Path) -> None:
    with pytest.raises(LauncherUnavailable, match="has no controller cpu, memory"):
        host.choose(_flags(), _v2(tmp_path, "hugetlb"))


def test_a_read_only_hierarchy_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LauncherUnavailable, match="mounted read-only: mount -o remount,rw"):
        host.choose(_flags(), _v1(tmp_path, read_only=True)).prepare()


def test_controllers_are_handed_on_level_by_level(tmp_path: Path) -> None:
    mounted = _v2(tmp_path)
    (tmp_path / "r").mkdir()
    for directory in (tmp_path, tmp_path / "r"):
        (directory / "cgroup.subtree_control").touch()
    host.choose(_flags(), mounted).prepare()
    for directory in (tmp_path, tmp_path / "r"):
        assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory"
    (tmp_path / "r" / "cgroup.subtree_control").unlink()
    with pytest.raises(LauncherUnavailable, match=r"r/cgroup\.subtree_control: No such file"):
        host.choose(_flags(), mounted).prepare()


def test_limits_are_the_sum_of_all_resources() -> None:
    named = resources.parse("cpus:1;mem:64;disk:5;ports:[1-2];mem:0.5;cpus:0.25")
    assert limits.of(named) == Limits(int(64.5 * MEBIBYTE), 1.25)
    assert limits.of(resources.parse("mem:1")) == Limits(32 * MEBIBYTE, None)
    assert limits.of([]) == Limits(None, None)


@pytest.mark.parametrize(
    ("cpus", "shares", "weight", "quota"),
    [(1, 1024, 100, 100_000), (0.5, 512, 50, 50_000), (0.0001, 2, 1, 1_000), (3.5, 3584, 350, 350_000)],
)
def test_cpus_become_shares_weight_and_quota(cpus: float, shares: int, weight: int, quota: int) -> None:
    assert (limits.shares(cpus), limits.weight(cpus), limits.quota_usecs(cpus)) == (shares, weight, quota)


@given(st.floats(min_value=0, max_value=1e6))
def test_the_kernel_takes_every_value(cpus: float) -> None:
    assert limits.shares(cpus) >= 2
    assert 1 <= limits.weight(cpus) <= 10_000
    assert limits.quota_usecs(cpus) >= 1_000


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (1, "1B"), (1536, "1536B"), (2048, "2KB"), (32 << 20, "32MB"), (3 << 30, "3GB")]
)
def test_bytes_are_written_as_mesos_writes_them(count: int, text: str) -> None:
    assert limits.render_bytes(count) == text


def test_the_limitation_says_what_was_allowed_and_what_was_used() -> None:
    limitation = limits.memory_limitation(MemoryUse(32 << 20, 48 << 20, "cache 1\nrss 2\n"))
    assert limitation.message.startswith("Memory limit exceeded: Requested: 32MB Maximum Used: 48MB\n")
    assert limitation.message.endswith("MEMORY STATISTICS: \ncache 1\nrss 2\n")
    assert [(used.name, used.scalar.value, used.role) for used in limitation.resources] == [("mem", 48.0, "*")]


def _files(directory: Path, **values: str) -> None:
    directory.mkdir(parents=True)
    for name, value in values.items():
        (directory / name.replace("__", ".")).write_text(value)


def _text(*parts: str | Path) -> str:
    with open(os.path.join(*parts)) as file:
        return file.read()


def test_version_1_limits_go_into_their_files_and_memory_never_shrinks(tmp_path: Path) -> None:
    memory, cpu = tmp_path / "memory/r/c", tmp_path / "cpu/r/c"
    hierarchies = {name: str(tmp_path / name) for name in ("freezer", "memory", "cpu")}
    _files(memory, memory__soft_limit_in_bytes="", memory__limit_in_bytes=str(1 << 60))
    _files(cpu, cpu__shares="", cpu__cfs_period_us="", cpu__cfs_quota_us="")
    cgroups = GroupV1(hierarchies, "r", "c", cfs=True)
    cgroups.set_limits(Limits(64 * MEBIBYTE, 2.0), first=True)
    assert _text(cpu, "cpu.shares") == "2048"
    assert (_text(cpu, "cpu.cfs_period_us"), _text(cpu, "cpu.cfs_quota_us")) == ("100000", "200000")
    for mebibytes, hard in ((64, 64), (128, 128), (40, 128)):
        cgroups.set_limits(Limits(mebibytes * MEBIBYTE, None), first=False)
        assert int(_text(memory, "memory.soft_limit_in_bytes")) == mebibytes * MEBIBYTE
        assert int(_text(memory, "memory.limit_in_bytes")) == hard * MEBIBYTE


def test_version_2_limits_go_into_their_files(tmp_path: Path) -> None:
    directory = tmp_path / "r/c"
    _files(
        directory, memory__max="max\n", cpu__weight="", cpu__max="", memory__peak="70", memory__stat="anon 1\n",
        memory__events="low 0\noom 2\noom_kill 1\n",
    )  # fmt: skip
    cgroups = GroupV2(str(tmp_path), "r", "c", controllers=["cpu", "memory"], cfs=True)
    cgroups.set_limits(Limits(64 * MEBIBYTE, 0.5), first=True)
    assert _text(directory, "memory.max") == str(64 * MEBIBYTE)
    assert (_text(directory, "cpu.weight"), _text(directory, "cpu.max")) == ("50", "50000 100000")
    cgroups.set_limits(Limits(40 * MEBIBYTE, None), first=False)
    assert _text(directory, "memory.max") == str(64 * MEBIBYTE)
    assert cgroups.ooms() == 2
    assert cgroups.memory_use() == MemoryUse(64 * MEBIBYTE, 70, "anon 1\n")


def test_without_cfs_and_controllers_nothing_is_written(tmp_path: Path) -> None:
    _files(tmp_path / "r/c")
    cgroups = GroupV2(str(tmp_path), "r", "c", controllers=[], cfs=False)
    cgroups.set_limits(Limits(64 * MEBIBYTE, 0.5), first=True)
    assert os.listdir(tmp_path / "r/c") == []
    assert cgroups.ooms() == 0
    assert cgroups.open_oom() is None


class _Runaways(GroupV2):
    """A group whose processes have been replaced by others before they can be killed, unless they are frozen."""

    def __init__(self) -> None:
        super().__init__("/no", "r", "c", controllers=[], cfs=False)
        self.living = {1, 2, 3}
        self.killed: set[int] = set()
        self.frozen = False

    def pids(self) -> set[int]:
        return set(self.living)

    def kill(self, pid: int) -> None:
        if not self.frozen:
            self.living = {number + 3 for number in self.living}
        if pid in self.living:
            self.killed.add(pid)

    def kill_at_once(self) -> None:
        """As a kernel that cannot."""

    def freeze(self, *, frozen: bool) -> None:
        self.frozen = frozen
        if not frozen:
            self.living -= self.killed


def test_what_runs_away_from_every_look_is_frozen_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runaways = _Runaways()
    monkeypatch.setattr(group, "_kill", runaways.kill)
    monkeypatch.setattr(group, "_wait", lambda *_: None)
    monkeypatch.setattr(group, "KILL_SECS", 0.2)
    assert runaways.destroy() == {1, 2, 3}
    assert runaways.pids() == set()


def test_what_cannot_be_killed_is_reported_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    immortals = _Runaways()
    monkeypatch.setattr(group, "_kill", lambda _: None)
    monkeypatch.setattr(group, "_wait", lambda *_: None)
    monkeypatch.setattr(group, "KILL_SECS", 0.05)
    assert immortals.destroy() == {1, 2, 3}
    assert "processes survive SIGKILL" in caplog.text
