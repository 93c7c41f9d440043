"""The folder in which the processes of one machine store their metrics.

Each process has files of its own, which it maps into its memory.  Its counts stay there when it
crashes.  The folder has these files:

``counter_ID.db``, ``histogram_ID.db``, ``gauge_livesum_ID.db``
    the values of one process.  ID has its process id and a random part, so that it never comes back.
``process_ID.lock``
    is locked by this process while it lives.
``merged.json``
    the number of the merged files that are valid, and the processes that they contain.
``counter_merged-N.db`` and others
    the sums over all processes that have ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from esxiproxy.core.startup import StartupError

if TYPE_CHECKING:
    from esxiproxy.ops.metrics.metrics import Metrics

ENVIRONMENT = "ESXIPROXY_METRICS_FOLDER"
"""The variable with the path of the folder, which the master sets for its children only."""
_LIBRARY_ENVIRONMENT = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of prometheus_client.  One that others have set is not used."""
MERGED = "merged-"
"""The beginning of the owner's name in the name of a merged file."""
_INDEX = "merged.json"
_KINDS = ("counter", "gauge_livesum", "histogram")
"""The beginnings of the names of the files that each process has."""

_log = Logger()


def prepare(folder: Path) -> None:
    """Create the folder, or empty it: the metrics of a proxy begin with its master.  Raises OSError."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


def process_metrics(environ: Mapping[str, str] = os.environ) -> Metrics:
    """Return the metrics of this process, in the folder that the environment names, or else in memory.

    They are in memory as well if the folder cannot be used, since a process serves consoles without it.  Call
    this once in a process.  Raises StartupError without prometheus_client.
    """
    try:
        import prometheus_client
        from prometheus_client import values
    except ImportError as error:
        text = f"metrics need prometheus-client ({error.name} is missing): pip install 'esxiproxy[metrics]'"
        raise StartupError(text) from error

    from esxiproxy.ops.metrics.metrics import Metrics

    prometheus_client.disable_created_metrics()
    if folder := environ.get(ENVIRONMENT):
        try:
            _store_in(Path(folder))
            return Metrics()
        except OSError as error:
            _log.error(
                "the metrics of process {pid} cannot be stored in {folder}: {error}; they are counted in "
                "memory, and /metrics lacks them until the next reload: make room there, and reload",
                pid=os.getpid(),
                folder=folder,
                error=error,
            )
    values.ValueClass = values.MutexValue
    return Metrics()


def _store_in(folder: Path) -> None:
    """Let prometheus_client store all values in files of this process.  Raises OSError."""
    from prometheus_client import values

    from esxiproxy.ops.metrics.mapped_file import ReservedFile

    while True:  # a process that merges files may take the new one for that of an ended process
        identifier = f"{os.getpid()}-{secrets.token_hex(8)}"
        if lock_file(lock_path(folder, identifier), wait=True, create=True) is not None:
            break
    for kind in _KINDS:  # now, since a full disk is an error later
        ReservedFile(str(folder / f"{kind}_{identifier}.db")).close()
    os.environ[_LIBRARY_ENVIRONMENT] = str(folder)
    library: Any = values  # whose types are known where it is installed only
    library.MmapedDict = ReservedFile
    library.ValueClass = values.MultiProcessValue(lambda: identifier)


def lock_path(folder: Path, owner: str) -> Path:
    """Return the path of the file that a process locks while it lives."""
    return folder / f"process_{owner}.lock"


def lock_file(path: Path, wait: bool, create: bool) -> int | None:
    """Return the descriptor of a file that is locked now; None if it is locked already or was removed.

    The file stays locked until the descriptor is closed or the process ends.  Raises OSError, also if there
    is no folder to create the file in.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        if create:
            raise
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


@dataclass(frozen=True, slots=True)
class Index:
    """The content of ``merged.json``: the valid merged files, and the processes whose files they contain."""

    number: int = 0
    contained: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folder: Path) -> Index:
        """Return the index of a folder."""
        try:
            stored = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        return cls(stored["number"], frozenset(stored["contained"]))

    def write(self, folder: Path) -> None:
        """Make this the index of a folder, in one step."""
        fresh = folder / f"{_INDEX}.new"
        fresh.write_text(
            json.dumps({"number": self.number, "contained": sorted(self.contained)}), encoding="utf-8"
        )
        fresh.replace(folder / _INDEX)

    def files(self, folder: Path) -> list[Path]:
        """Return the files that hold the values of a folder, each value once."""
        merged = f"{MERGED}{self.number}"
        return [
            path
            for path in sorted(folder.glob("*.db"))
            if (owner := owner_of(path)) not in self.contained
            and (owner == merged or not owner.startswith(MERGED))
            and _has_values(path)
        ]


def owner_of(path: Path) -> str:
    """Return the process to which a file of values belongs."""
    return path.stem.rpartition("_")[2]


def _has_values(path: Path) -> bool:
    """Return whether a file is there and is not just being created."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
