"""Which secret belongs to which executor (design: the first Hello sets a token, later ones must repeat it)."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from typing import TYPE_CHECKING

from services.common.journal import Journal, JournalCorrupt, JournalUnavailable

if TYPE_CHECKING:
    from services.common.keys import Executor

_LOG = logging.getLogger(__name__)
# Executors of the past: their incarnations never come back, so dropping the oldest is safe.
_KEEP = 10_000


class TokenStore:
    """Hashes of executors' tokens, journalled so that a restart does not let somebody else claim an executor."""

    def __init__(self, state_dir: str) -> None:
        """Reads `state_dir`/tokens.journal.

        A damaged file is put aside and started anew: the executors that live then set their tokens again.

        Raises:
            OSError: The file can neither be read nor made.
        """
        path = os.path.join(state_dir, "tokens.journal")
        self._hashes: dict[str, str] = {}
        payloads: list[bytes] = []
        try:
            self._journal, payloads = Journal.open(path)
        except FileNotFoundError:
            self._journal = _create(path)
        except JournalUnavailable as error:
            raise OSError(str(error)) from error
        except JournalCorrupt as error:
            os.rename(path, f"{path}.damaged")
            _LOG.error("tokens are lost, executors set them again", extra={"fields": {"error": str(error)}})
            self._journal = _create(path)
        for payload in payloads:
            self._hashes.update(json.loads(payload))
        if len(self._hashes) > 2 * _KEEP:
            self._hashes = dict(list(self._hashes.items())[-_KEEP:])
            try:
                self._journal.rewrite([json.dumps(self._hashes).encode()])
            except JournalUnavailable as error:
                # It is longer than it need be, and as good.
                _LOG.warning("tokens not compacted", extra={"fields": {"error": str(error)}})

    def claim(self, executor: Executor, token: bytes) -> bool:
        """Whether `token` is the executor's; the first one offered becomes it."""
        name = executor.file_name
        digest = hashlib.sha256(token).hexdigest()
        known = self._hashes.get(name)
        if known is not None:
            return hmac.compare_digest(known, digest)
        self._hashes[name] = digest
        try:
            self._journal.append(json.dumps({name: digest}).encode())
        except JournalUnavailable as error:
            # The claim holds for the life of this process; refusing the executor would be worse.
            _LOG.error("token not recorded", extra={"fields": {"error": str(error)}})
        return True

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()


def _create(path: str) -> Journal:
    try:
        return Journal.create(path)
    except JournalUnavailable as error:
        raise OSError(str(error)) from error
