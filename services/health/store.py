"""The journals of all checks: one file a task under STATE/checks, for its owner's eyes only (0600).

None of them is flushed to the disk: a crash of the host ends the tasks, and what was recorded of them
means nothing then.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from services.common.descriptors import Descriptors
from services.common.journal import Journal, JournalCorrupt, JournalUnavailable
from services.health import records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from services.health.history import History, Recorded
    from services.health.model import Kind
    from services.health.verdict import Checks

_LOG = logging.getLogger(__name__)
_SUFFIX = ".journal"
# Some 150 results: a rewrite, with those that are kept, costs as much as a few of them.
COMPACT_AT = 64 << 10
_DAMAGED = f"{_SUFFIX}.damaged"
# What was put aside is for people, and may hold secrets: it does not stay for ever.
KEEP_DAMAGED = 7 * 86400.0
MOST_DAMAGED = 20


class CheckLog:
    """The journal of one task. A full disk costs records, never a verdict: the driver remembers verdicts, too."""

    def __init__(
        self, path: str, header: records.Header, descriptors: Descriptors | None = None, journal: Journal | None = None
    ) -> None:
        self.header = header
        self._path = path
        self._descriptors = descriptors
        self._journal = journal
        self._failing = False
        self._compact_at = COMPACT_AT

    def save(
        self,
        task: Checks | None,
        histories: Mapping[Kind, History],
        kind: Kind | None = None,
        newest: Recorded | None = None,
    ) -> bool:
        """Records the state of one check; False: it could not be written, the next save tries again.

        Args:
            task: All checks of the task; None: it has none, the header is all.
            histories: What they have found, `newest` included.
            kind: The check that has changed; None: all are new.
            newest: What it has found.
        """
        try:
            self._write(task, histories, kind, newest)
        except JournalUnavailable as error:
            if not self._failing:
                _LOG.error("journal of a check cannot be written", extra={"fields": self._fields(error)})
            self._failing = True
            return False
        if self._failing:
            _LOG.info("journal of a check is written again", extra={"fields": self._fields(None)})
        self._failing = False
        return True

    def _write(
        self,
        task: Checks | None,
        histories: Mapping[Kind, History],
        kind: Kind | None,
        newest: Recorded | None,
    ) -> None:
        if self._journal is None:
            journal = Journal.create(self._path, None, self._descriptors)
            try:
                journal.append_all(self._whole(task, histories))
            except JournalUnavailable:
                journal.close()
                raise
            self._journal = journal
            return
        if self._journal.size > self._compact_at:
            try:
                self._journal.rewrite(self._whole(task, histories))
                self._compact_at = COMPACT_AT
                return
            except JournalUnavailable as error:
                # A second file needs more room than one record more.
                self._compact_at *= 2
                _LOG.warning("journal of a check cannot be compacted", extra={"fields": self._fields(error)})
        if task is None:
            return
        if kind is None or self._failing:
            # What could not be written may have been of any of them.
            others = [each for each in task.of if each is not kind]
            self._journal.append_all(records.encode_state(each, task.version, task.of[each]) for each in others)
        if kind is not None:
            self._journal.append(records.encode_state(kind, task.version, task.of[kind], newest))

    def _whole(self, task: Checks | None, histories: Mapping[Kind, History]) -> list[bytes]:
        whole = [records.encode_header(self.header)]
        if task is not None:
            whole += [records.encode_results(kind, history) for kind, history in histories.items()]
            whole += [records.encode_state(kind, task.version, check) for kind, check in task.of.items()]
        return whole

    def close(self) -> None:
        """Closes the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def delete(self) -> None:
        """Closes and removes the file."""
        self.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # It could never be made.
        except OSError as error:
            # The next start removes it, as no driver names the task any more.
            _LOG.error("journal of a check cannot be removed", extra={"fields": self._fields(error)})

    def _fields(self, error: Exception | None) -> dict[str, str]:
        fields = {"task": str(self.header.key), "file": self._path}
        return fields if error is None else {**fields, "error": str(error)}


class Store:
    """All check journals of a state directory."""

    def __init__(self, state_dir: str, boot_id: str) -> None:
        self._dir = os.path.join(state_dir, "checks")
        # There may be more live tasks than descriptors.
        self._descriptors = Descriptors()
        self.boot_id = boot_id

    def new(self, header: records.Header) -> CheckLog:
        """The journal of a new check; the file appears with the first `save` and replaces an older one of this key."""
        return CheckLog(os.path.join(self._dir, header.key.file_name + _SUFFIX), header, self._descriptors)

    def load(self) -> Iterator[tuple[CheckLog, Checks | None, dict[Kind, History]]]:
        """All tasks of this boot, as they were last saved. Others' files are removed, damaged ones put aside.

        What is put aside is built anew from what its driver says. It stays for 7 days, the newest 20 of them.

        Raises:
            OSError: The directory cannot be made or read.
        """
        os.makedirs(self._dir, mode=0o700, exist_ok=True)
        for name in sorted(os.listdir(self._dir)):
            path = os.path.join(self._dir, name)
            if not name.endswith(_SUFFIX):
                if name.endswith(f"{_SUFFIX}.new"):
                    os.unlink(path)
                continue
            loaded = self._load_one(path)
            if loaded is not None:
                yield loaded
        self._remove_damaged()

    def _remove_damaged(self) -> None:
        with os.scandir(self._dir) as entries:
            aside = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries if _is_aside(entry)]
        aside.sort(reverse=True)
        # Only people look at it, so the wall clock will do.
        oldest = time.time() - KEEP_DAMAGED
        for number, (since, path) in enumerate(aside):
            if number < MOST_DAMAGED and since >= oldest:
                continue
            try:
                os.unlink(path)
            except OSError as error:
                fields = {"file": path, "error": str(error)}
                _LOG.warning("what was put aside cannot be removed", extra={"fields": fields})

    def _load_one(self, path: str) -> tuple[CheckLog, Checks | None, dict[Kind, History]] | None:
        try:
            journal, payloads = Journal.open(path, None, self._descriptors)
        except JournalUnavailable:
            # A full disk kept anything from being recorded in it, and still does.
            os.unlink(path)
            return None
        except (JournalCorrupt, OSError) as error:
            _put_aside(path, error)
            return None
        try:
            if not payloads:
                # The service ended between making the file and writing it.
                journal.close()
                os.unlink(path)
                return None
            header = records.decode_header(payloads[0])
            task, histories = records.decode(header, payloads[1:]) if header.specs else (None, {})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            journal.close()
            _put_aside(path, error)
            return None
        log = CheckLog(path, header, self._descriptors, journal)
        if header.boot_id != self.boot_id:
            log.delete()
            return None
        return log, task, histories


def _is_aside(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(_DAMAGED) and entry.is_file(follow_symlinks=False)


def _put_aside(path: str, error: Exception) -> None:
    aside = path.removesuffix(_SUFFIX) + _DAMAGED
    _LOG.error("journal of a check is put aside", extra={"fields": {"file": aside, "error": str(error)}})
    try:
        os.rename(path, aside)
        # Its age is counted from now on.
        os.utime(aside)
    except OSError as rename_error:
        # A new journal of that key replaces it.
        _LOG.error("it stays where it is", extra={"fields": {"file": path, "error": str(rename_error)}})
