"""Base64 as Mesos reads it: the first `=` ends it, blanks are skipped, nobody counts the padding."""

from __future__ import annotations

import base64
import re

_BLANK = re.compile(r"[ \t\n\v\f\r]+")
_NOT_STANDARD = re.compile(r"[^A-Za-z0-9+/]")
_NOT_URL_SAFE = re.compile(r"[^A-Za-z0-9_-]")


def decode(text: str, *, url_safe: bool = False) -> bytes:
    """The bytes; a last character that completes none is ignored.

    Raises:
        ValueError: A character of another alphabet; the text is Mesos'.
    """
    digits = _BLANK.sub("", text.partition("=")[0])
    bad = (_NOT_URL_SAFE if url_safe else _NOT_STANDARD).search(digits)
    if bad is not None:
        raise ValueError(f"Invalid character '{bad[0]}'")
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return base64.b64decode(digits + "=" * (-len(digits) % 4), b"-_" if url_safe else None)


def encode_url_safe(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
