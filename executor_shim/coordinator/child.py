"""The forked child on its way to exec: the order of the steps is the point."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # see `spawn`
import errno
import os
import pwd
import signal

from executor_shim.coordinator import linux, tag
from executor_shim.coordinator.logfile import LogRules, Unwritable, open_log
from executor_shim.coordinator.tree import MARKER, new_marker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# exec resets what is handled, not what is ignored: the coordinator ignores a few, and may have been started with more.
# Looked up once, as 60 calls in each child would be a fifth of the whole start.
_CHANGED_HERE = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
                 signal.SIGTERM, signal.SIGCHLD}  # fmt: skip
# What a shell exits with when a command cannot be run (POSIX: 2.8.2): another attempt would not help.
_EXEC_CODES = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126, errno.ELOOP: 126,
               errno.ENAMETOOLONG: 126, errno.E2BIG: 126}  # fmt: skip
NOT_RUNNABLE = frozenset(_EXEC_CODES.values())
_FAILED = 125
_EXEC = b"exec "
_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
_OPEN_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _inherited() -> set[signal.Signals]:
    """Signals that whoever started this process ignores."""
    ignored = set()
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            ignored.add(number)
    return ignored - {signal.SIGKILL, signal.SIGSTOP}


_RESET = sorted(map(int, _CHANGED_HERE | _inherited()))


class Command:
    """What to execute and as what. All strings as the kernel takes them; relative paths are relative to `sandbox`."""

    __slots__ = ("argv", "cwd", "env", "logging", "marker", "profile", "sandbox", "stderr", "stdout", "user")

    def __init__(
        self,
        *,
        argv: list[bytes],
        env: dict[bytes, bytes],
        cwd: bytes,
        user: str,
        sandbox: bytes,
        stdout: bytes = b"",
        stderr: bytes = b"",
        profile: bytes = b"",
        logging: LogRules | None = None,
    ) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.user = user
        self.sandbox = sandbox
        self.stdout = stdout
        """File to append to; empty: /dev/null."""
        self.stderr = stderr
        self.profile = profile
        """File that bash reads first, if it exists."""
        self.logging = logging or LogRules()
        self.marker = new_marker()


class Refused(Exception):
    """The command cannot be carried out, for a reason that is not the kernel's."""


class _Progress:
    """What is being tried just now: the place that an error names."""

    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = b"start"


def run(command: Command, report: int, outputs: tuple[int, int] | None, parent: int) -> NoReturn:
    """Become the command. Writes `step: reason` to `report` and exits if that fails.

    The code is one of `NOT_RUNNABLE` if it is the command itself that cannot be run.

    Args:
        command: what to become.
        report: write end of a pipe that exec closes.
        outputs: descriptors for stdout and stderr; the command's files, if it has any, are only tried then. None: the
            files themselves.
        parent: pid of the coordinator.
    """
    progress = _Progress()
    code = _FAILED
    try:
        _become(command, outputs, parent, progress)
    except OSError as error:
        reason = error.strerror or "unknown error"
        if progress.step.startswith(_EXEC):
            code = _EXEC_CODES.get(error.errno or 0, _FAILED)
    except (Refused, Unwritable) as error:
        reason = str(error)
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the coordinator's own frames
        reason = f"internal error: {type(error).__name__}"
    try:
        os.write(report, progress.step[:2048] + b": " + reason.encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _become(command: Command, outputs: tuple[int, int] | None, parent: int, progress: _Progress) -> NoReturn:
    os.setsid()
    # All signals are blocked since before the fork: none may reach the coordinator's handlers in here.
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.umask(0o022)

    progress.step = f"user {command.user!r}".encode("utf-8", "replace")
    account = account_of(command.user)
    progress.step = b"sandbox " + command.sandbox
    sandbox = os.open(command.sandbox, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = None
    for label, path, directory in (
        (b"cwd ", command.cwd, command.cwd),
        (b"stdout ", command.stdout, os.path.dirname(command.stdout)),
        (b"stderr ", command.stderr, os.path.dirname(command.stderr)),
    ):
        if directory == made:
            continue
        progress.step = label + path
        _make_directories(sandbox, _inside(command.sandbox, directory), account)
        made = directory
    if account is not None:
        progress.step = f"user {command.user!r}".encode("utf-8", "replace")
        for pipe in outputs or ():
            # Else it could not open its own /dev/stdout.
            os.fchown(pipe, account.pw_uid, account.pw_gid)
        change_user(account)

    # A change of user resets it, so not before. The parent may have died in between.
    progress.step = b"prctl"
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)

    progress.step = b"tag"
    tag.wear(command.marker)
    progress.step = b"sandbox " + command.sandbox
    os.fchdir(sandbox)
    progress.step = b"stdin /dev/null"
    os.dup2(os.open(b"/dev/null", os.O_RDONLY), 0)
    for fd, label, path in ((1, b"stdout ", command.stdout), (2, b"stderr ", command.stderr)):
        progress.step = label + path
        file = open_log(path) if path else os.open(b"/dev/null", os.O_WRONLY)
        os.dup2(file if outputs is None else outputs[fd - 1], fd)
        os.close(file)
    env = _environment(command)
    if command.cwd:
        progress.step = b"cwd " + command.cwd
        os.chdir(command.cwd)
    progress.step = _EXEC + command.argv[0]
    _exec(command.argv, env)


def account_of(user: str) -> pwd.struct_passwd | None:
    """The account to change to; None: stay as we are. Raises Refused."""
    if not user:
        return None
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Refused("unknown") from None
    if account.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise Refused("only root can start processes as another user")
    return account


def change_user(account: pwd.struct_passwd) -> None:
    """Be somebody else for good, with all groups that they are in. Raises OSError."""
    os.setgroups(os.getgrouplist(account.pw_name, account.pw_gid))
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _inside(sandbox: bytes, directory: bytes) -> bytes:
    """The directory as seen from the sandbox; empty when it lies elsewhere: there we make nothing."""
    if not directory.startswith(b"/"):
        return directory
    sandbox = sandbox.rstrip(b"/") + b"/"
    return directory[len(sandbox) :] if directory.startswith(sandbox) else b""


def _make_directories(sandbox: int, path: bytes, account: pwd.struct_passwd | None) -> None:
    """Make what is missing of a path inside the sandbox, and give it to the user.

    The sandbox can be written by tasks, and this may run as root: no symbolic link is followed. Where there is one, the
    user's own rights decide later, when the file is opened.
    """
    here = os.dup(sandbox)
    for name in path.split(b"/"):
        if name in (b"", b"."):
            continue
        try:
            below = _open_directory(here, name, account)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                break
            raise
        os.close(here)
        here = below
    os.close(here)


def _open_directory(here: int, name: bytes, account: pwd.struct_passwd | None) -> int:
    try:
        return os.open(name, _OPEN_DIRECTORY | os.O_PATH, dir_fd=here)
    except FileNotFoundError:
        try:
            os.mkdir(name, 0o755, dir_fd=here)
        except FileExistsError:
            # Another process of the task was faster.
            return os.open(name, _OPEN_DIRECTORY | os.O_PATH, dir_fd=here)
    made = os.open(name, _OPEN_DIRECTORY, dir_fd=here)
    if account is not None and os.fstat(made).st_uid == os.geteuid():
        os.fchown(made, account.pw_uid, account.pw_gid)
    return made


_OWN_NAME: list[bytes] = []


def own_name() -> bytes:
    """Name of the coordinator's user, or its number. Called before the fork, so that it is known after."""
    if not _OWN_NAME:
        try:
            _OWN_NAME.append(os.fsencode(pwd.getpwuid(os.geteuid()).pw_name))
        except KeyError:
            _OWN_NAME.append(b"%d" % os.geteuid())
    return _OWN_NAME[0]


def _environment(command: Command) -> dict[bytes, bytes]:
    env = command.env
    if not command.user:
        env.setdefault(b"USER", own_name())
        env.setdefault(b"LOGNAME", own_name())
    if command.profile:
        profile = os.path.join(command.sandbox, command.profile)
        if os.path.exists(profile):
            env[b"BASH_ENV"] = profile
    env[MARKER.encode()] = command.marker.encode()
    return env


def _exec(argv: list[bytes], env: dict[bytes, bytes]) -> NoReturn:
    """Like execvp with the PATH of the new environment. Raises OSError."""
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)  # noqa: S606 - a shell is the command's own affair
    denied: OSError | None = None
    for directory in (env.get(b"PATH") or _DEFAULT_PATH).split(b":"):
        try:
            os.execve(os.path.join(directory, argv[0]), argv, env)  # noqa: S606 - see above
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
