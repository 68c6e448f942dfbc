from __future__ import annotations

import pytest

from services.local_agent import settings
from services.local_agent.containers import isolation
from services.local_agent.containers.isolation import Isolation


def _parse(*flags: str) -> isolation.LauncherFlags:
    return settings.parse(["--work-dir", "/w", *flags]).launcher


def test_the_posix_launcher_isolates_nothing() -> None:
    assert _parse() == isolation.LauncherFlags()
    assert _parse("--isolation", "posix/cpu, posix/mem,filesystem/posix").isolation == Isolation()


def test_the_linux_launcher_isolates_all_that_it_can() -> None:
    flags = _parse("--launcher", "linux")
    assert flags.isolation == Isolation(("cpu", "cpuacct", "memory"), pid_namespace=True, mount_namespace=True)
    assert (flags.cgroups_root, flags.cgroups_version, flags.enable_cfs) == ("mesos", "auto", False)


def test_isolation_is_a_list_in_mesos_words() -> None:
    text = "cgroups/mem,cgroups/pids,filesystem/linux,posix/cpu"
    flags = _parse("--launcher", "linux", "--isolation", text, "--cgroups-enable-cfs", "--no-switch-user")
    assert flags.isolation == Isolation(("memory", "pids"), pid_namespace=False, mount_namespace=True)
    assert flags.enable_cfs
    assert not flags.switch_user
    assert _parse("--launcher", "linux", "--isolation", "").isolation == Isolation()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--isolation", "cgroups/mem"], "--isolation: 'cgroups/mem' needs --launcher=linux"),
        (["--isolation", "namespaces/pid"], "--isolation: 'namespaces/pid' needs --launcher=linux"),
        (["--launcher", "linux", "--isolation", "cgroups/mem,disk/du"], "--isolation: 'disk/du': not one of"),
        (["--cgroups-root", "/mesos"], "--cgroups-root: '/mesos'"),
        (["--cgroups-root", "a/../.."], "--cgroups-root: 'a/../..'"),
        (["--cgroups-root", ""], "--cgroups-root: ''"),
        (["--launcher", "docker"], "--launcher"),
    ],
)
def test_mistakes_are_named(flags: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse(*flags)
    assert named in capsys.readouterr().err.splitlines()[-1]
