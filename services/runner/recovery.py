"""From the journals to the tasks: what a runner does first when it starts. Nothing is told to anybody."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from services.common.journal import offset_of
from services.runner import header
from services.runner.book import Book
from services.runner.header import AnotherFormat, Summary
from services.runner.records import BadRecord
from services.runner.store import ANOTHER_VERSION, Damage, JournalUnreadable, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.runner.archive import Archive
    from services.runner.runner import Runner
    from services.runner.store import Store, TaskLog

_LOG = logging.getLogger(__name__)


def replay(store: Store, archive: Archive, runner: Runner, boot: str) -> None:
    """Brings every task back that has a sound journal. One that has none does not hold up the others.

    Raises:
        JournalUnreadable: One may be sound, and cannot be read now, or not by this version: it is left as it is.
    """
    _look_aside(store)
    summaries: list[Summary] = []
    books: list[Book] = []
    for log, payloads in store.scan():
        try:
            found = read(log, payloads)
        except AnotherFormat as error:
            raise JournalUnreadable(f"{log.path}: {error}; {ANOTHER_VERSION}") from error
        except BadRecord as error:
            log.close()
            offset = offset_of(payloads, error.index)
            store.quarantine(log.path, _damaged(log.path, offset, error), offset, key_of(payloads))
            continue
        key = found.key
        if not store.is_of(log.path, key):
            log.close()
            store.quarantine(log.path, f"{log.path}: the name of the file is not that of task '{key.task_id}'", 0, key)
        elif isinstance(found, Summary):
            log.close()
            summaries.append(found)
        else:
            books.append(found)
    archive.load(summaries)
    for book in books:
        book.damage = store.damage_of(book.key)
        runner.adopt(book, boot)
    fields = {"tasks": len(runner.books), "ended": len(archive.task_keys()), "damaged": len(store.damages)}
    _LOG.info("replayed", extra={"fields": fields})


def read(log: TaskLog, payloads: Sequence[bytes]) -> Book | Summary:
    """What a journal holds.

    Raises:
        BadRecord: A record cannot be; its index says which one.
    """
    head = header.decode(payloads[0])
    if isinstance(head, Summary):
        return head
    book = Book(head, log, recorded=True)
    book.replay(payloads[1:])
    return book


def _look_aside(store: Store) -> None:
    """Journals that an earlier process has put aside are shown for as long as they are there."""
    for path, payloads, corrupt in store.aside():
        error, offset = f"{path}: put aside by another version, this one can read it", 0
        if corrupt is not None:
            error, offset = str(corrupt), corrupt.offset
        elif payloads:
            try:
                read(store.log_at(path), payloads)
            except BadRecord as bad:
                offset = offset_of(payloads, bad.index)
                error = _damaged(path, offset, bad)
        store.damages.append(Damage(path, error, offset, key_of(payloads)))


def _damaged(path: str, offset: int, error: BadRecord) -> str:
    return f"{path}: damaged at offset {offset}: {error}"
