"""The master's directory: of the shared state without ``state``, of the metrics, and of private sockets."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from esxiproxy.ops.metrics.files import prepare


class StateDirectory:
    """A private directory in systemd's RUNTIME_DIRECTORY or in the directory for temporary files.

    It is created on first use, and created again when it was removed.  A lock on it keeps systemd-tmpfiles
    from removing its files.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._parent = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
        self._path: Path | None = None
        self._descriptor: int | None = None

    @property
    def database(self) -> str:
        """The path of the database in the directory, which exists then.  Raises OSError."""
        return str(self.path / "state.sqlite")

    @property
    def metrics(self) -> str:
        """The path of the folder of the metrics, which exists then.  Raises OSError.

        A folder that does not exist yet is created empty.
        """
        folder = self.path / "metrics"
        if not folder.is_dir():
            prepare(folder)
        return str(folder)

    @property
    def shells(self) -> str:
        """The path of the folder of the manhole's private sockets, which exists then.  Raises OSError."""
        folder = self.path / "shells"
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    @property
    def sockets(self) -> str:
        """The path of the folder of the admin process's sockets, which exists then.  Raises OSError."""
        folder = self.path / "sockets"
        folder.mkdir(mode=0o700, exist_ok=True)
        return str(folder)

    @property
    def path(self) -> Path:
        """The path of the directory, which exists then.  Raises OSError."""
        if self._path is None or not self._is_ours(self._path):
            self.remove()
            path = Path(tempfile.mkdtemp(prefix="esxiproxy-", dir=self._parent))
            try:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                path.rmdir()
                raise
            self._path = path
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return self._path

    def remove(self) -> None:
        """Remove the directory and everything in it."""
        if self._path is not None and self._is_ours(self._path):
            shutil.rmtree(self._path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._path = self._descriptor = None

    def _is_ours(self, path: Path) -> bool:
        """Return whether the directory at the path is the one that this process created."""
        try:
            return self._descriptor is not None and os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False
