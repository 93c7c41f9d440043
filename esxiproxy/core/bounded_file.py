"""Reads the regular files that a configuration names, up to a size."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

_KINDS: Mapping[Callable[[int], bool], str] = MappingProxyType(
    {
        stat.S_ISFIFO: "Is a named pipe",
        stat.S_ISSOCK: "Is a socket",
        stat.S_ISCHR: "Is a device",
        stat.S_ISBLK: "Is a device",
    }
)


class NoRegularFile(OSError):
    """The error for a named pipe, a socket or a device.  ``strerror`` names the kind."""


class FileTooLarge(OSError):
    """The error for a file with more bytes than its reader allows."""


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most so many bytes.

    A named pipe would block until a process writes to it, and a device may have no end.  Both are refused
    without being opened.  Raises OSError, whose ``strerror`` is never None.
    """
    try:
        _check_kind(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            _check_kind(path, os.fstat(descriptor).st_mode)  # it may have been replaced
            content = file.read(most + 1)
    except ValueError as error:
        reason = "embedded null byte" if "\0" in str(path) else str(error)
        raise OSError(errno.EINVAL, reason, str(path)) from None
    if len(content) > most:
        raise FileTooLarge(errno.EFBIG, f"Has more than {most} bytes", str(path))
    return content


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for is_kind, text in _KINDS.items():
        if is_kind(mode):
            raise NoRegularFile(errno.EINVAL, text, str(path))
