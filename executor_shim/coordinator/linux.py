"""System calls and /proc files that the standard library does not wrap."""

from __future__ import annotations

import ctypes
import os
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def now() -> float:
    """Seconds of CLOCK_BOOTTIME: goes on in suspend, never jumps, means the same to every process of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def become_subreaper() -> None:
    """Orphans among all descendants become children of this process. Raises OSError."""
    _set(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_inspection() -> None:
    """Other processes of the same user can read neither memory nor descriptors of this one. Raises OSError."""
    _set(_PR_SET_DUMPABLE, 0)


def die_with_parent(signal_number: int) -> None:
    """Be sent this signal when the parent dies. Call it after a change of user, which resets it. Raises OSError."""
    _set(_PR_SET_PDEATHSIG, signal_number)


def set_name(name: bytes) -> None:
    """What ps calls this process; up to 15 bytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(name)
    _set(_PR_SET_NAME, ctypes.addressof(buffer))


def _set(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def boot_id() -> str:
    """Identifies this boot of the kernel; empty where /proc does not say."""
    try:
        return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


def read_file(path: str) -> bytes:
    """All of a small file. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)
