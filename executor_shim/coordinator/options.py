"""Options of `trivet-executor`. By hand: argparse would cost the start 5 ms and the coordinator 0.6 MiB."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """\
usage: trivet-executor --services DIR [OPTION VALUE]...

The executor that a Mesos agent launches: parent of all processes of its tasks.

  --services DIR           directory with runner.sock, health.sock and reporter.sock
  --linger SECS            stay so long after the last task has ended, and wait so long, but at least 60 s, for the
                           first one (default 0: go with the last task, wait for the first one for ever)
  --service-deadline SECS  give a task up when the services have not come so long after its launch (default 60)
  --ack-timeout SECS       end without the acknowledgement of a task's terminal status when it has not come so long
                           after it was sent (default 60)
  --preserve-env           processes get the executor's environment too, the agent's token excepted
  --help                   show this
  --version                show the version

What becomes of the output of processes whose logger the task does not set:

  --process-logger-destination WHERE  file (default), console (the executor's own stdout and stderr), both or none
  --process-logger-mode MODE          standard (default), or rotate: files never get longer than the limit
  --rotate-log-size-mb MIB            the limit (default 100)
  --rotate-log-backups N              older files that are kept, .1 is the newest (default 5)
"""

_SECONDS = ("--linger", "--service-deadline", "--ack-timeout", "--beat-timeout")
_FLAGS = ("--help", "--version", "--preserve-env")
_WORDS = {
    "--process-logger-destination": ("file", "console", "both", "none"),
    "--process-logger-mode": ("standard", "rotate"),
}
# Thermos: what a limit and a number of backups must be at least.
_NUMBERS = {"--rotate-log-size-mb": 1 << 40, "--rotate-log-backups": (1 << 31) - 1}
# For tests: another driver (JSON list), and how long a driver may be silent.
_HIDDEN = ("--driver-argv", "--beat-timeout")
_KNOWN = ("--services", *_SECONDS, *_WORDS, *_NUMBERS, "--driver-argv")


class OptionError(Exception):
    """The command line is wrong; the text names the option."""


class Options:
    """The parsed command line."""

    __slots__ = ("handed_on", "values")

    def __init__(self, argv: Sequence[str]) -> None:
        """Parse.

        Raises:
            OptionError: unknown option, or a value is missing or wrong.
        """
        self.values: dict[str, str] = {}
        self.handed_on: list[str] = []
        """What the driver gets, in pairs of name and value: everything except what is only for the coordinator."""
        rest = list(argv)
        while rest:
            given = rest.pop(0)
            name, equals, value = given.partition("=")
            if name in _FLAGS and not equals:
                self.values[name] = "yes"
                if name == "--preserve-env":
                    self.handed_on += [name, "yes"]
                continue
            if name not in _KNOWN:
                raise OptionError(f"{name}: unknown option")
            if not equals:
                if not rest:
                    raise OptionError(f"{name}: needs a value")
                value = rest.pop(0)
            self._check(name, value)
            self.values[name] = value
            if name not in _HIDDEN:
                self.handed_on += [name, value]
        if "--services" not in self.values and not any(flag in self.values for flag in ("--help", "--version")):
            raise OptionError("--services: missing")

    @staticmethod
    def _check(name: str, value: str) -> None:
        if not value:
            raise OptionError(f"{name}: must not be empty")
        if name in _SECONDS:
            try:
                seconds = float(value)
            except ValueError:
                seconds = -1.0
            if not 0 <= seconds < float("inf"):
                raise OptionError(f"{name}: must be a number of seconds, 0 or more")
        elif name in _WORDS and value not in _WORDS[name]:
            raise OptionError(f"{name}: must be {' or '.join(_WORDS[name])}")
        elif name in _NUMBERS:
            number = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
            if not 1 <= number <= _NUMBERS[name]:
                raise OptionError(f"{name}: must be a whole number, 1 or more")

    @property
    def beat_timeout(self) -> float:
        """Seconds that a driver may be silent."""
        return float(self.values.get("--beat-timeout", "10"))

    @property
    def driver_argv(self) -> list[str]:
        """Prefix of the driver's command line; empty: the real one."""
        text = self.values.get("--driver-argv")
        if text is None:
            return []
        import json

        argv: list[str] = json.loads(text)
        return argv
