"""Where workers have their shared state when nobody says where."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


class StateDirectory:
    """A private folder, made when it is asked for: systemd's RUNTIME_DIRECTORY, or a temporary one.

    It is locked, which keeps systemd-tmpfiles out of it.  One that was removed all the same is made anew.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._parent = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
        self._path: Path | None = None
        self._descriptor: int | None = None

    @property
    def database(self) -> str:
        """The path of the database in it.  Raises OSError."""
        if self._path is None or not self._is_ours(self._path):
            self.remove()
            path = Path(tempfile.mkdtemp(prefix="esxiproxy-", dir=self._parent))
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                path.rmdir()
                raise
            self._path = path
            with suppress(OSError):  # a file system may know no locks
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return str(self._path / "state.sqlite")

    def remove(self) -> None:
        """Take it away, with what is in it."""
        if self._path is not None and self._is_ours(self._path):
            shutil.rmtree(self._path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._path = self._descriptor = None

    def _is_ours(self, path: Path) -> bool:
        """Whether it is there, and not somebody else's of the same name."""
        try:
            return self._descriptor is not None and os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False
