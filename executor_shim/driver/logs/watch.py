"""Being woken when a file grows or a directory gets an entry (inotify).

Each watch tells once, so that a process which writes without end wakes nobody who is not ready.
"""

from __future__ import annotations

import asyncio
import ctypes
import os

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_MOVE_SELF = 0x800
_IN_ONESHOT = 0x80000000
_FILE = _IN_MODIFY | _IN_MOVE_SELF | _IN_ONESHOT
_DIRECTORY = _IN_MOVED_TO | _IN_CREATE | _IN_ONESHOT
# struct inotify_event: int wd; uint32 mask, cookie, len; then a name of `len` bytes.
_HEAD_BYTES = 16
_READ_BYTES = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class NoWatch(Exception):
    """The kernel gives no more watches; the text names the setting."""


class Watches:
    """One inotify instance for all readers, open only while somebody waits: each user has few of them."""

    def __init__(self) -> None:
        """Opens nothing."""
        self._fd = -1
        self._waiting: dict[int, set[asyncio.Event]] = {}

    def arm(self, fd: int, directory: int, event: asyncio.Event) -> None:
        """Sets `event` once: when the file changes, or something new comes into the directory.

        Args:
            fd: The open file; watched is exactly this one, whatever its name is meanwhile.
            directory: Descriptor of its directory.
            event: To be set on the running loop.

        Raises:
            NoWatch: Too many are in use.
        """
        if self._fd < 0:
            self._open()
        for place, mask in ((fd, _FILE), (directory, _DIRECTORY)):
            number = _libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % place, mask)
            if number < 0:
                raise _no_watch("fs.inotify.max_user_watches")
            self._waiting.setdefault(number, set()).add(event)

    def disarm(self, event: asyncio.Event) -> None:
        """`event` is not waited for any more."""
        for number, events in list(self._waiting.items()):
            events.discard(event)
            if not events:
                del self._waiting[number]
                # EINVAL: it has told already and is gone.
                _libc.inotify_rm_watch(self._fd, number)

    def close(self) -> None:
        """Gives the instance back."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._waiting.clear()

    def _open(self) -> None:
        fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise _no_watch("fs.inotify.max_user_instances")
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        place = 0
        while place + _HEAD_BYTES <= len(data):
            number = int.from_bytes(data[place : place + 4], "little", signed=True)
            place += _HEAD_BYTES + int.from_bytes(data[place + 12 : place + 16], "little")
            # -1: the kernel's queue was full. Everybody looks.
            told = [number] if number >= 0 else list(self._waiting)
            for each in told:
                for event in self._waiting.pop(each, ()):
                    event.set()


def _no_watch(setting: str) -> NoWatch:
    return NoWatch(f"cannot follow: {os.strerror(ctypes.get_errno())} (see {setting})")
