"""Writes metrics in the formats that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Metric, exposition
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from twisted.logger import Logger

from esxiproxy.ops.metrics.files import Index
from esxiproxy.ops.metrics.merging import merge_dead
from esxiproxy.ops.metrics.metrics import Metrics

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_TEXT = "text/plain; version=1.0.0"
_ATTEMPTS = 20
"""Attempts to read a folder while another process merges files in it."""

_log = Logger()


class FolderChanged(OSError):
    """The files of a folder changed during each attempt to read them."""


class _Families(Collector):
    """A collector of these metric families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def expose(source: Metrics | Path, accept: str = "", extra: Iterable[Metric] = ()) -> tuple[str, bytes]:
    """Return the content type and the text of all metrics.

    ``source`` has the metrics of this process, or is the folder of several processes.  Files of processes
    that have ended are merged first.  ``accept`` is the value of the request's Accept field: the text format
    0.0.4 is the default, and OpenMetrics is used if it is accepted.  ``extra`` are more families, such as
    those of ``collectors.py``.  Raises OSError.
    """
    if isinstance(source, Path):
        try:
            merge_dead(source)
        except OSError as error:
            _log.warn(
                "the metrics of ended processes in {folder} could not be merged: {error}; "
                "they are counted all the same, and their files stay until a later merge",
                folder=source,
                error=error,
            )
        counted = read_folder(source)
    else:
        counted = list(source.registry.collect())
    encode, content_type = _encoder(accept)
    return content_type, encode(_Families([*counted, *extra]))


def content_type_of(accept: str) -> str:
    """Return the content type of the format for a value of Accept, of which there are three."""
    return _encoder(accept)[1]


def _encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """Return the encoder and the content type of one of three formats.

    The library accepts any number as a version, and four ways to escape names.  The names of our metrics need
    no escape.
    """
    try:
        wanted: str = exposition.choose_encoder(accept)[1]
    except (TypeError, ValueError):  # a version that is no number
        wanted = ""
    is_openmetrics = wanted.startswith(_OPENMETRICS.partition(";")[0])
    known = _OPENMETRICS if is_openmetrics else _TEXT if wanted.startswith(_TEXT) else ""
    chosen: tuple[Callable[[Any], bytes], str] = exposition.choose_encoder(known)
    return chosen


def read_folder(folder: Path) -> list[Metric]:
    """Return the metrics of all processes of a folder, by their names.

    Each value is counted once, also while another process merges files.  Raises OSError.
    """
    for _ in range(_ATTEMPTS):
        index = Index.of(folder)
        try:
            found = MultiProcessCollector.merge([str(path) for path in index.files(folder)])
        except FileNotFoundError:
            continue
        if Index.of(folder) == index:
            return sorted(found, key=lambda metric: metric.name)
    raise FolderChanged(f"the metrics in {folder} could not be read: their files change all the time")
