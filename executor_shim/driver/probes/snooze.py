"""Looking for the snooze file (Aurora: `.healthchecksnooze`).

The sandbox may lie on a disk that hangs, so it is a thread's work: one for all probes, as a thread for each would cost
more than the probe.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections import deque
from typing import TYPE_CHECKING

from executor_shim.driver.probes.loopback import why
from executor_shim.driver.probes.results import NotMade

if TYPE_CHECKING:
    Answer = tuple[asyncio.Future[bool], bool | OSError]
    Question = tuple[str, asyncio.Future[bool]]

# Seconds after which a disk is taken to hang.
_PATIENCE = 5.0
# Questions that may wait for it.
_MOST = 4096
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class SnoozeFiles:
    """Answers whether a file is there. The thread is started by the first question."""

    def __init__(self, sandbox: str) -> None:
        self._sandbox = sandbox
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: deque[Question] = deque()
        self._waiting = 0
        self._wake = threading.Semaphore(0)

    async def present(self, path: str) -> bool:
        """Whether the file is there, and is a regular one.

        Args:
            path: Relative to the sandbox.

        Raises:
            NotMade: It cannot be told.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._work, args=(self._loop,), daemon=True, name="snooze").start()
        if self._waiting >= _MOST:
            raise NotMade("snooze_file: the disk of the sandbox does not answer")
        question: asyncio.Future[bool] = self._loop.create_future()
        self._waiting += 1
        self._asked.append((path, question))
        self._wake.release()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await question
        except TimeoutError:
            raise NotMade("snooze_file: the disk of the sandbox does not answer") from None
        except OSError as error:
            raise NotMade(f"snooze_file: {why(error)}") from error

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._wake.acquire()
            answers: list[Answer] = []
            while self._asked:
                path, question = self._asked.popleft()
                try:
                    answers.append((question, present(self._sandbox, path)))
                except OSError as error:
                    answers.append((question, error))
            try:
                loop.call_soon_threadsafe(self._tell, answers)
            except RuntimeError:
                # The loop is closed: the driver ends, and nobody waits.
                return

    def _tell(self, answers: list[Answer]) -> None:
        self._waiting -= len(answers)
        for question, answer in answers:
            if question.done():
                continue
            if isinstance(answer, OSError):
                question.set_exception(answer)
            else:
                question.set_result(answer)


def present(sandbox: str, path: str) -> bool:
    """Whether a regular file is there (Aurora: `isfile`). No symbolic link is followed: the sandbox is the task's.

    Args:
        sandbox: Of the executor.
        path: Below it; `..` is not looked for.

    Raises:
        OSError: It cannot be told.
    """
    *directories, name = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in directories or name == "..":
        return False
    here = os.open(sandbox, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for directory in directories:
            below = os.open(directory, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
    finally:
        os.close(here)
    return stat.S_ISREG(found.st_mode)
