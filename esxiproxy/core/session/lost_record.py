"""The record of a session whose process has died, as another process writes it."""

from __future__ import annotations

from esxiproxy.core.errors import SessionError
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Record


def lost_record(entry: SessionEntry, error: SessionError, now: float, machine: str = "") -> Record:
    """Return the record of a session that ended with an error when its process died.

    The number of bytes is 0, since only that process counted them.  ``now`` is in seconds since the epoch.
    ``machine`` is that of the process, if it may be another one.
    """
    return Record(
        session=entry.session,
        listener=entry.listener,
        client=PeerAddress.read(entry.client),
        principal=entry.principal,
        target=entry.target,
        upstream=entry.upstream,
        status=101,
        close_code=None,
        ended_by="proxy",
        error=error.name,
        detail=str(error),
        octets_up=0,
        octets_down=0,
        phases={"closed": max(0.0, now - entry.since)},
        host=entry.host,
        trace_id=entry.trace_id,
        console=entry.console,
        machine=machine,
    )
