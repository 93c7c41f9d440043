"""What a configuration says of the access log, and of the sessions in twistd's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from esxiproxy.core.config.errors import BadValue, shown


class LogTarget(Enum):
    """Where an access log can go that is no file."""

    STDOUT = "stdout"
    SYSLOG = "syslog"
    """The daemon that listens on ``/dev/log``, as ``daemon.info``."""
    JOURNALD = "journald"
    """systemd's journal, with fields of its own beside the line."""


class AccessLogFormat(Enum):
    """How a line reads."""

    JSON = "json"
    COMBINED = "combined"
    """What Apache and nginx call so: for the tools that read nothing else."""


class SessionLogFilter(Enum):
    """Whose end has a line in twistd's own log."""

    ALL = "all"
    ERRORS = "errors"
    """Of the sessions that failed only: an access log may tell of the others, or nobody wants to know."""


@dataclass(frozen=True, slots=True)
class AccessLogConfig:
    """Where the lines go, and how they read."""

    to: Path | LogTarget
    format: AccessLogFormat = AccessLogFormat.JSON


_WORDS = [place.value for place in LogTarget]
_NOWHERE = frozenset({"on", "yes", "true", "no", "none", "false"})


def access_log(text: str, folder: Path) -> Path | LogTarget | None:
    """``off`` (None), ``stdout``, ``syslog``, ``journald``, or a file.  Raises BadValue."""
    if text == "off":
        return None
    if text in _WORDS:
        return LogTarget(text)
    word = text.partition(":")[0].lower()
    if word in _WORDS or text.lower() == "off":
        raise BadValue(f"{shown(text)}: write {word}, or ./{text} for a file of that name")
    if text.lower() in _NOWHERE:
        raise BadValue(f"{shown(text)} says not where: write a file, {', '.join(_WORDS)} or off")
    path = folder / text
    if path.is_dir():
        raise BadValue(f"is a folder: {text}")
    if not path.parent.is_dir():
        raise BadValue(f"no such folder: {path.parent}")
    return path
