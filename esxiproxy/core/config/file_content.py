"""Reads the files that a section names, up to a size."""

from __future__ import annotations

from pathlib import Path

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config.errors import BadValue


def file_content(path: Path, most: int) -> bytes:
    """Return the content of a file of at most so many bytes, a multiple of 1 MiB.  Raises BadValue."""
    try:
        return read_file(path, most)
    except FileNotFoundError:
        raise BadValue(f"no such file: {path}") from None
    except FileTooLarge:
        raise BadValue(f"has more than {most >> 20} MiB: {path}") from None
    except OSError as error:
        raise BadValue(f"cannot be read ({error.strerror}): {path}") from None
