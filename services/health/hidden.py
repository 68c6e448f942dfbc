"""Values that a target may repeat and nobody may read: those of a check's own headers and environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.task.checks import CommandTarget, HttpTarget

if TYPE_CHECKING:
    from services.common.task.checks import Target

MASK = "***"
# A shorter one (a number, "on") is no secret, and would take half of the text with it.
LEAST = 4


def hidden_of(target: Target) -> tuple[str, ...]:
    """What is not to be quoted, the longest first.

    Of a header also what follows its first word, as in `Authorization: Bearer TOKEN`: servers repeat the token alone.
    """
    match target:
        case HttpTarget(headers=headers) if headers:
            values = [value for whole in headers.values() for value in (whole, *whole.split(maxsplit=1)[1:])]
        case CommandTarget(env=env) if env:
            values = [*env.values()]
        case _:
            return ()
    stripped = {value.strip() for value in values}
    return tuple(sorted((value for value in stripped if len(value) >= LEAST), key=len, reverse=True))


def masked(raw: bytes | str, hidden: tuple[str, ...]) -> bytes | str:
    """The same with each of these values as `***`."""
    for value in hidden:
        if isinstance(raw, str):
            raw = raw.replace(value, MASK)
        else:
            raw = raw.replace(value.encode("utf-8", "surrogatepass"), MASK.encode())
    return raw
