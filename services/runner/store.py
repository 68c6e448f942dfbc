"""The journals of all tasks: one file a task under STATE/tasks."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
from typing import TYPE_CHECKING, NamedTuple

from services.common import journal as journals
from services.common.descriptors import Descriptors
from services.common.journal import Journal, JournalCorrupt, JournalUnavailable, JournalVersion
from services.runner import header
from services.runner.records import BadRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.common.keys import TaskKey
    from services.common.syncer import Syncer

_LOG = logging.getLogger(__name__)
_SUFFIX = ".journal"
_ASIDE = re.compile(r"\.journal\.damaged(\.[0-9]+)?$")
# What an operator can do about a journal that only another program can read.
ANOTHER_VERSION = "start the version that has written it; to go on without this task, move the file away"


class Damage(NamedTuple):
    """A journal that was put aside: where it is, what is wrong with it (file and offset), and whose it is if known."""

    path: str
    error: str
    offset: int
    key: TaskKey | None


class JournalUnreadable(OSError):
    """A journal that may be sound cannot be opened or read now. Not to be started without: its task may be running."""


class TaskLog:
    """Journal of one task. The file is made by the first write, so that a full disk is met in one place only."""

    def __init__(
        self, path: str, syncer: Syncer | None, descriptors: Descriptors | None = None, journal: Journal | None = None
    ) -> None:
        self.path = path
        self._syncer = syncer
        self._descriptors = descriptors
        self._journal = journal
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return 0 if self._journal is None else self._journal.size

    def append(self, payloads: Sequence[bytes]) -> None:
        """Adds records in one write.

        Raises:
            JournalUnavailable: Nothing was added; may be tried again.
        """
        if self._closed:
            raise JournalUnavailable(f"{self.path}: closed")
        if self._journal is None:
            self._journal = Journal.create(self.path, self._syncer, self._descriptors, payloads)
        else:
            self._journal.append_all(payloads)

    def rewrite(self, payloads: Sequence[bytes]) -> None:
        """Replaces the content.

        Raises:
            JournalUnavailable: The old content stands.
        """
        if self._journal is None:
            self.append(payloads)
        else:
            self._journal.rewrite(payloads)

    def close(self) -> None:
        """Closes the file for good."""
        self._closed = True
        if self._journal is not None:
            self._journal.close()
            self._journal = None


class Store:
    """STATE/tasks. The service holds the lock on STATE."""

    def __init__(self, state_dir: str, syncer: Syncer | None = None, max_open: int | None = None) -> None:
        """Touches nothing. `max_open`: journals that are open at a time; None: a share of what the process may open."""
        self._directory = os.path.join(state_dir, "tasks")
        self._syncer = syncer
        # There may be more live tasks than descriptors.
        self._descriptors = Descriptors(max_open)
        # Journals that were put aside, by this process or before it.
        self.damages: list[Damage] = []

    def open(self) -> None:
        """Makes the directory.

        Raises:
            OSError: It cannot be made.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def log_of(self, key: TaskKey) -> TaskLog:
        """The journal of a new task; nothing is written yet."""
        return TaskLog(self._path(key), self._syncer, self._descriptors)

    def log_at(self, path: str) -> TaskLog:
        """A journal that is not open: nothing of it is read, and nothing written unless asked."""
        return TaskLog(path, self._syncer, self._descriptors)

    def scan(self) -> Iterator[tuple[TaskLog, list[bytes]]]:
        """All journals with their payloads. Damaged ones are put aside, and the others are not touched by that.

        Raises:
            JournalUnreadable: Names the file, the cause and what to do; the file stays where and as it is.
        """
        for name in sorted(os.listdir(self._directory)):
            if not name.endswith(_SUFFIX):
                continue
            path = os.path.join(self._directory, name)
            try:
                journal, payloads = Journal.open(path, self._syncer, self._descriptors, keep_first=True)
            except JournalVersion as error:
                raise JournalUnreadable(f"{error}; {ANOTHER_VERSION}") from error
            except JournalCorrupt as error:
                self.quarantine(path, str(error), error.offset, key_of(error.payloads))
                continue
            except JournalUnavailable:
                # Nothing in it yet, and no room now: as below.
                self._unlink(path)
                continue
            except OSError as error:
                raise JournalUnreadable(f"{path}: cannot be read: {error.strerror}; {_remedy(error.errno)}") from error
            if payloads:
                yield TaskLog(path, self._syncer, self._descriptors, journal), payloads
            else:
                # Nothing but the header of a file: nothing was done for the task either.
                journal.close()
                self._unlink(path)

    def aside(self) -> Iterator[tuple[str, Sequence[bytes], JournalCorrupt | None]]:
        """Journals that an earlier process has put aside: path, sound records, and what the file says is wrong."""
        for name in sorted(os.listdir(self._directory)):
            if not _ASIDE.search(name):
                continue
            path = os.path.join(self._directory, name)
            try:
                yield path, journals.read(path)[0], None
            except JournalCorrupt as error:
                yield path, error.payloads, error
            except OSError as error:
                yield path, (), JournalCorrupt(path, 0, f"cannot be read: {error.strerror}")

    def damage_of(self, key: TaskKey) -> str:
        """What is wrong with a journal of this task that was put aside; empty: there is none."""
        return next((damage.error for damage in reversed(self.damages) if damage.key == key), "")

    def is_of(self, path: str, key: TaskKey) -> bool:
        """The file is where the task's journal is looked for. Another one of that task is a copy."""
        return path == self._path(key)

    def read(self, key: TaskKey) -> list[bytes]:
        """Payloads of one journal.

        Raises:
            OSError: The file cannot be read.
            JournalCorrupt: It is damaged.
        """
        return journals.read(self._path(key))[0]

    def quarantine(self, path: str, why: str, offset: int, key: TaskKey | None) -> None:
        """Puts a file aside that cannot be used, and says so; nothing is deleted, older files of that name included.

        Args:
            path: The file.
            why: What is wrong; names file and offset.
            offset: Bytes to the first damage.
            key: Whose journal it is; None: nobody can tell.
        """
        _LOG.error("journal put aside", extra={"fields": {"path": path, "error": why}})
        aside, number = f"{path}.damaged", 0
        while os.path.lexists(aside):
            number += 1
            aside = f"{path}.damaged.{number}"
        try:
            os.rename(path, aside)
        except OSError as error:
            _LOG.error("journal cannot be put aside", extra={"fields": {"path": path, "error": str(error)}})
            aside = path
        self.damages.append(Damage(aside, why, offset, key))

    def remove(self, key: TaskKey) -> None:
        """Deletes a journal."""
        self._unlink(self._path(key))

    def _path(self, key: TaskKey) -> str:
        return os.path.join(self._directory, f"{key.file_name}{_SUFFIX}")

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _LOG.error("journal cannot be deleted", extra={"fields": {"path": path, "error": str(error)}})


def _remedy(number: int | None) -> str:
    """What an operator can do about an error of open() or read()."""
    if number == errno.EMFILE:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"the hard limit of open files is {hard}, which is too low: raise it (ulimit -Hn, LimitNOFILE=)"
    if number == errno.ENFILE:
        return "all files that the host allows are open: raise fs.file-max"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"user {os.geteuid()} must be able to read and write it"
    if number == errno.ENOMEM:
        return "free some memory"
    if number == errno.EIO:
        return "check the disk; to go on without this task, move the file away"
    return "to go on without this task, move the file away"


def key_of(payloads: Sequence[bytes]) -> TaskKey | None:
    """Whose journal it is, as far as its first record can be read."""
    try:
        return header.decode(payloads[0]).key if payloads else None
    except BadRecord:
        return None
