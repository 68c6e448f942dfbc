"""`trivet journal`: what a service has written down. The file is only read."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

from services.cli.tasks import CANNOT_START, FAILED, Failure, note
from services.cli.tasks.records import Unreadable, described, fields_of
from services.cli.views.texts import printable
from services.common import journal as journals
from services.common.journal import JournalCorrupt

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def journal(options: argparse.Namespace) -> int:
    """Prints every record; returns 1 when the file is damaged.

    Raises:
        Failure: the file cannot be read.
    """
    path = options.file
    data = _read(path)
    damage = ""
    try:
        payloads: Sequence[bytes]
        payloads, end = journals.parse(path, data)
    except JournalCorrupt as error:
        payloads, end = error.payloads, len(data)
        damage = str(error)
        if error.offset == 0:
            # Nothing of it can be trusted to be a journal.
            raise Failure(damage, status=FAILED) from None
    status = _print(path, payloads, as_json=options.json)
    if damage:
        note(damage)
        return FAILED
    if end < len(data):
        note(
            f"{path}: a torn record at offset {end}: {len(data) - end} bytes, of a crash or still being written; "
            + ("the service cuts it off at its next start" if payloads else "nothing before it is whole")
        )
    elif not payloads:
        note(f"{path}: no records")
    return status


def _print(path: str, payloads: Sequence[bytes], *, as_json: bool) -> int:
    status = 0
    offset = len(journals.MAGIC)
    for payload in payloads:
        try:
            record = fields_of(payload)
        except Unreadable as error:
            # The checksum is right, so it was written like this; what comes after it may be read all the same.
            note(f"{path}: damaged at offset {offset}: {error}")
            status = FAILED
        else:
            if as_json:
                print(json.dumps({"offset": offset, "bytes": len(payload), "record": record}))
            else:
                print(f"{offset:>8}  {printable(described(record))}")
        offset += len(journals.frame(payload))
    return status


def _read(path: str) -> bytes:
    """The whole file, if it is one that may be a journal.

    Raises:
        Failure: it cannot be read.
    """
    try:
        # A FIFO would hold us up for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", status=CANNOT_START) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Failure(f"{path}: not a file: name one of STATE/tasks or STATE/checks", status=CANNOT_START)
        with open(fd, "rb", closefd=False) as file:
            head = file.read(len(journals.MAGIC))
            # A file of another kind may be of any size.
            return head if head != journals.MAGIC else head + file.read()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", status=CANNOT_START) from None
    finally:
        os.close(fd)
