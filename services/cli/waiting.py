"""Waiting for one of several things."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def first(*works: Coroutine[Any, Any, object]) -> None:
    """Waits until one is done and gives up the others.

    Raises:
        Exception: what the one that is done raised.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        # Those that were given up have to come to their own end: nothing runs on unseen.
        await asyncio.gather(*tasks, return_exceptions=True)


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Waits for something at most this long; False: it did not happen."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return False
    return True
