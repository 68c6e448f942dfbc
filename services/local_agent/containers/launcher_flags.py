"""Command line of the launchers."""

from __future__ import annotations

import argparse

from services.local_agent.containers import isolation


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds them, with their help."""
    add = parser.add_argument
    add(
        "--launcher",
        choices=isolation.LAUNCHERS,
        default="posix",
        help="posix: plain processes; linux: cgroups and namespaces, needs root (default: %(default)s)",
    )
    add(
        "--isolation",
        metavar="LIST",
        help="what containers have of their own: cgroups/cpu, cgroups/mem, cgroups/pids (accounting), namespaces/pid, "
        "filesystem/linux (mounts); also taken, without effect: posix/cpu, posix/mem, filesystem/posix "
        f"(default: {isolation.DEFAULTS['posix']}; with --launcher=linux {isolation.DEFAULTS['linux']})",
    )
    add(
        "--cgroups-root",
        type=_cgroups_root,
        default="mesos",
        metavar="NAME",
        help="containers are the cgroups NAME/<container id> (default: %(default)s)",
    )
    add(
        "--cgroups-version",
        choices=["auto", "1", "2"],
        default="auto",
        help="auto: 1 where its hierarchies are mounted, else 2 (default: %(default)s)",
    )
    add(
        "--cgroups-enable-cfs",
        action="store_true",
        help="limit CPU time to the resources; without it they are only shares of a busy machine",
    )
    add(
        "--switch-user",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="when the agent is root: executors run as the command's user, or else the framework's (default: yes)",
    )


def read(parser: argparse.ArgumentParser, options: argparse.Namespace) -> isolation.LauncherFlags:
    """Their values; a mistake is an error of the parser, which raises SystemExit."""
    text = isolation.DEFAULTS[options.launcher] if options.isolation is None else options.isolation
    try:
        wanted = isolation.parse(text, options.launcher)
    except ValueError as error:
        parser.error(f"--isolation: {error}")
    return isolation.LauncherFlags(
        options.launcher,
        wanted,
        options.cgroups_root,
        options.cgroups_version,
        enable_cfs=options.cgroups_enable_cfs,
        switch_user=options.switch_user,
    )


def _cgroups_root(text: str) -> str:
    try:
        return isolation.check_root(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
