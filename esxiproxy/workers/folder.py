"""Where workers have their shared state when nobody says where."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


class StateFolder:
    """A private folder, made when it is asked for: systemd's RUNTIME_DIRECTORY, or a temporary one."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._above = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or None
        self._path: Path | None = None

    @property
    def database(self) -> str:
        """The path of the database in it.  Raises OSError."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="esxiproxy-", dir=self._above))
        return str(self._path / "state.sqlite")

    def remove(self) -> None:
        """Take it away, with what is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None
