"""The session log: one line in the process's log for each session that ends."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.config.access_log import SessionLogFilter
from esxiproxy.core.errors import LimitReached, OutOfDescriptors, TLSHandshakeFailed
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.session.record import Record
from esxiproxy.core.session.session import Session
from esxiproxy.interfaces import ISessionObserver

MAX_REFUSAL_LINES = 5
"""Lines a second for refusals under a limit, failed TLS handshakes and clients that sent nothing."""
_REFUSED = frozenset({LimitReached.__name__, OutOfDescriptors.__name__, TLSHandshakeFailed.__name__})
_ERRORS = SessionLogFilter.ERRORS  # a member of an Enum takes long to look up in Python 3.11
_SILENT_CLIENT_TIMEOUTS = frozenset({"tls_handshake_timeout", "head_timeout"})


@implementer(ISessionObserver)
class SessionLog:
    """The observer that logs a line for each session that ends, or only for those that failed.

    At most ``MAX_REFUSAL_LINES`` lines a second are logged for refusals under a limit, failed TLS handshakes
    and clients that sent nothing.  The next such line has the number of the lines left out.
    """

    _log = Logger()

    def __init__(
        self, seconds: Callable[[], float], session_filter: SessionLogFilter = SessionLogFilter.ALL
    ) -> None:
        self.filter = session_filter
        self._seconds = seconds
        self._second = 0
        self._logged = self._suppressed = 0

    def opened(self, session: Session) -> None:
        """Ignore the start of a session: its line is logged when it ends."""

    def closed(self, record: Record) -> None:
        if not record.error and self.filter is _ERRORS:
            return
        if record.error not in _REFUSED and record.timeout not in _SILENT_CLIENT_TIMEOUTS:
            self._log.info("{line}", line=line(record))
        elif self._may_log():
            suppressed, self._suppressed = self._suppressed, 0
            more = f" ({suppressed} more refusals were not logged)" if suppressed else ""
            self._log.info("{line}{more}", line=line(record), more=more)
        else:
            self._suppressed += 1

    def _may_log(self) -> bool:
        second = int(self._seconds())
        if second != self._second:
            self._second, self._logged = second, 0
        self._logged += 1
        return self._logged <= MAX_REFUSAL_LINES


def line(record: Record) -> str:
    """Return the record as a line for people: the client, the upstream and how the session ended."""
    parts = [
        f"session {record.session} {record.listener} {record.client} {record.target}",
        f"upstream={_place(record)}{_console(record)} status={record.status}",
        f"up={record.octets_up} down={record.octets_down} seconds={record.phases.get('closed', 0.0):.3f}",
    ]
    if record.timeout:
        parts.append(f"timeout={record.timeout}")
    parts.append(f"ended by {record.ended_by or '-'}")
    if record.close_code is not None:
        parts.append(f"code={record.close_code}")
    if record.error:
        parts.append(f"{record.error}: {record.detail}")
    return " ".join(parts)


def _console(record: Record) -> str:
    """Return the name of the console, quoted as in JSON, where the router knows one."""
    name = record.console_name or record.console
    return f" console={json.dumps(redact_text(name))}" if name else ""


def _place(record: Record) -> str:
    """Return the section of the upstream, with the host where that has a name of its own."""
    own = record.host and record.host != record.upstream
    return f"{record.upstream}/{redact_text(record.host)}" if own else record.upstream or "-"
