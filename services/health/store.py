"""The journals of all checks: one file a task under STATE/checks.

None of them is flushed to the disk: a crash of the host ends the tasks, and what was recorded of them
means nothing then.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from services.common.descriptors import Descriptors
from services.common.journal import Journal, JournalCorrupt, JournalUnavailable
from services.health import checks, records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.health.model import Check

_LOG = logging.getLogger(__name__)
_SUFFIX = ".journal"
# Some 700 results: a rewrite costs as much as a few of them.
COMPACT_AT = 256 << 10


class CheckLog:
    """The journal of one check. A full disk costs records, never a verdict: the driver remembers verdicts, too."""

    def __init__(
        self, path: str, header: records.Header, descriptors: Descriptors | None = None, journal: Journal | None = None
    ) -> None:
        self.header = header
        self._path = path
        self._descriptors = descriptors
        self._journal = journal
        self._failing = False
        self._compact_at = COMPACT_AT

    def save(self, check: Check | None) -> bool:
        """Records the whole state (None: header only); False: it could not be written, the next save tries again."""
        state = [] if check is None else [records.encode_state(check)]
        try:
            self._write(state)
        except JournalUnavailable as error:
            if not self._failing:
                _LOG.error("journal of a check cannot be written", extra={"fields": self._fields(error)})
            self._failing = True
            return False
        if self._failing:
            _LOG.info("journal of a check is written again", extra={"fields": self._fields(None)})
        self._failing = False
        return True

    def _write(self, state: list[bytes]) -> None:
        if self._journal is None:
            journal = Journal.create(self._path, None, self._descriptors)
            try:
                journal.append_all([records.encode_header(self.header), *state])
            except JournalUnavailable:
                journal.close()
                raise
            self._journal = journal
            return
        if self._journal.size > self._compact_at:
            try:
                self._journal.rewrite([records.encode_header(self.header), *state])
                self._compact_at = COMPACT_AT
                return
            except JournalUnavailable as error:
                # A second file needs more room than one record more.
                self._compact_at *= 2
                _LOG.warning("journal of a check cannot be compacted", extra={"fields": self._fields(error)})
        self._journal.append_all(state)

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

    def load(self) -> Iterator[tuple[CheckLog, Check | None]]:
        """All checks of this boot, as they were last saved. Others' files are removed, damaged ones put aside.

        A check that is put aside is built anew from what its driver says.

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

    def _load_one(self, path: str) -> tuple[CheckLog, Check | None] | None:
        try:
            journal, payloads = Journal.open(path, None, self._descriptors)
        except (JournalCorrupt, JournalUnavailable, OSError) as error:
            _put_aside(path, error)
            return None
        try:
            if not payloads:
                # The service ended between making the file and writing it.
                journal.close()
                os.unlink(path)
                return None
            header = records.decode_header(payloads[0])
            check = None
            if header.spec is not None:
                rule = header.spec.rule
                check = records.decode_state(rule, payloads[-1]) if len(payloads) > 1 else checks.new(rule)
        except (ValueError, KeyError) as error:
            journal.close()
            _put_aside(path, error)
            return None
        log = CheckLog(path, header, self._descriptors, journal)
        if header.boot_id != self.boot_id:
            log.delete()
            return None
        return log, check


def _put_aside(path: str, error: Exception) -> None:
    aside = f"{path}.damaged"
    _LOG.error("journal of a check is put aside", extra={"fields": {"file": aside, "error": str(error)}})
    try:
        os.rename(path, aside)
    except OSError as rename_error:
        # A new journal of that key replaces it.
        _LOG.error("it stays where it is", extra={"fields": {"file": path, "error": str(rename_error)}})
