"""Work that may block, done aside: files of a task may lie on a disk that hangs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def aside(work: Callable[..., T], *args: Any) -> T:
    """Does `work` in a thread of its own, which never keeps the driver from ending (a pool's would).

    Raises:
        Exception: What `work` raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def answer(value: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type] # without an error it is a T

    def run() -> None:
        value, error = None, None
        try:
            value = work(*args)
        except BaseException as problem:  # noqa: BLE001 - it is raised where the result is awaited
            error = problem
        try:
            loop.call_soon_threadsafe(answer, value, error)
        except RuntimeError:
            # The loop is closed: the driver ends, and nobody waits.
            return

    threading.Thread(target=run, daemon=True, name="aside").start()
    return await done
