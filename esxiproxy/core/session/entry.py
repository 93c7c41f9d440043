"""What all processes know of a session that one of them holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from esxiproxy.core.redaction import redact
from esxiproxy.core.session.session import Session


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session in a list of sessions.

    ``holder`` is the process that has it, ``since`` the wall clock's time at which it began.  ``target`` is
    redacted: a state may be a file or another machine's memory, and a ticket belongs into neither.
    """

    session: str
    holder: str
    listener: str
    client: str
    principal: str
    target: str
    upstream: str
    since: float

    def fields(self) -> dict[str, str | float]:
        """The entry by field names, for whoever has to write it down."""
        return asdict(self)


def entry_of(session: Session, holder: str, now: float) -> SessionEntry:
    """The entry of a session that this holder has now."""
    return SessionEntry(
        session=session.id,
        holder=holder,
        listener=session.request.listener,
        client=str(session.request.client),
        principal=session.principal.name if session.principal else "",
        target=redact(session.request.head.target),
        upstream=session.route.upstream.name if session.route else "",
        since=now - session.age,
    )
