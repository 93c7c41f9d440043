"""The shared list entry of a session, for all processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from esxiproxy.core.session.session import Session


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session in the shared list of sessions.

    ``holder`` is the id of the process that owns it, ``since`` the wall clock's time of its beginning.
    ``target`` is redacted, since a state is stored in a file.
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
        """Return the entry as a dictionary."""
        return asdict(self)


def entry_of(session: Session, holder: str, now: float) -> SessionEntry:
    """Return the entry of a session that this process owns at this time."""
    return SessionEntry(
        session=session.id,
        holder=holder,
        listener=session.request.listener,
        client=str(session.request.client),
        principal=session.principal.name if session.principal else "",
        target=session.request.shown_target,
        upstream=session.route.upstream.name if session.route else "",
        since=now - session.age,
    )
