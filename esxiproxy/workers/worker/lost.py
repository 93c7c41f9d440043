"""The record of a session whose worker died."""

from __future__ import annotations

from esxiproxy.core.errors import SessionError
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Record


class WorkerLost(SessionError):
    """The process that had the session died, and its connections with it."""


def record_of(entry: SessionEntry, now: float) -> Record:
    """What is known of it: how many bytes went through was the worker's own knowledge."""
    error = WorkerLost("the worker that had the session died")
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
    )
