"""The values of the keys for the access log and for session lines in twistd's log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_path import path_to_write


class LogTarget(Enum):
    """A destination of the access log other than a file."""

    STDOUT = "stdout"
    SYSLOG = "syslog"
    """The syslog daemon on ``/dev/log``, with facility and priority ``daemon.info``."""
    JOURNALD = "journald"
    """systemd's journal, with structured fields next to the line."""


class AccessLogFormat(Enum):
    """The format of an access log line."""

    JSON = "json"
    COMBINED = "combined"
    """The format of that name in Apache and nginx."""


class SessionLogFilter(Enum):
    """The sessions that write a line to twistd's own log when they end."""

    ALL = "all"
    ERRORS = "errors"
    """Only the sessions that failed."""


@dataclass(frozen=True, slots=True)
class AccessLogConfig:
    """The destination and the format of the access log."""

    to: Path | LogTarget
    format: AccessLogFormat = AccessLogFormat.JSON


_WORDS = [place.value for place in LogTarget]
_NOWHERE = frozenset({"on", "yes", "true", "no", "none", "false"})


def access_log(text: str, folder: Path) -> Path | LogTarget | None:
    """Return the destination: None for ``off``, a LogTarget or a path.  Raise BadValue."""
    if text == "off":
        return None
    if text in _WORDS:
        return LogTarget(text)
    word = text.partition(":")[0].lower()
    if word in _WORDS or text.lower() == "off":
        raise BadValue(f"{shown(text)}: write {word}, or ./{text} for a file of that name")
    if text.lower() in _NOWHERE:
        raise BadValue(f"{shown(text)} names no destination: write a file, {', '.join(_WORDS)} or off")
    return path_to_write(text, folder)
