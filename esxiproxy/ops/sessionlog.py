"""One line in the log for each session that ends."""

from __future__ import annotations

from twisted.logger import Logger
from zope.interface import implementer

from esxiproxy.core.record import Record
from esxiproxy.core.session import Session
from esxiproxy.interfaces import ISessionObserver


@implementer(ISessionObserver)
class SessionLog:
    """Tells the operator what became of every opening handshake."""

    _log = Logger()

    def opened(self, session: Session) -> None:
        """An open console is told of when it ends."""

    def closed(self, record: Record) -> None:
        self._log.info("{line}", line=line(record))


def line(record: Record) -> str:
    """The record for a person: who, where to, how it ended."""
    told = [
        f"session {record.session} {record.listener} {record.client} {record.target}",
        f"upstream={record.upstream or '-'} status={record.status}",
        f"up={record.octets_up} down={record.octets_down} seconds={record.phases.get('closed', 0.0):.3f}",
        f"ended by {record.ended_by or 'nobody'}",
    ]
    if record.close_code is not None:
        told.append(f"code={record.close_code}")
    if record.error:
        told.append(f"{record.error}: {record.detail}")
    return " ".join(told)
