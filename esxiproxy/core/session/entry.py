"""The shared list entry of a session, for all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from esxiproxy.core.quick_init import quick_init
from esxiproxy.core.session.session import Session


@quick_init
@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session in the shared list of sessions.

    ``holder`` is the id of the process that owns it, ``since`` the wall clock's time of its beginning.
    ``target`` is redacted, since a state is stored in a file.  ``host`` is the name of the upstream's host,
    ``authenticator`` the section that knows the principal, and ``link`` the id of the session's link.
    ``login`` is the id of the principal's login, ``console`` the name of the console and ``console_name``
    that for people, if it has one, ``trace_id`` the id of the client's trace, and ``address`` and
    ``address_name`` the IP address and the host name that were dialled.  ``machine`` is the name of the
    holder's machine.
    """

    session: str
    holder: str
    listener: str
    client: str
    principal: str
    target: str
    upstream: str
    since: float
    host: str = ""
    authenticator: str = ""
    link: str = ""
    login: str = ""
    console: str = ""
    trace_id: str = ""
    address: str = ""
    address_name: str = ""
    machine: str = ""
    console_name: str = ""

    @property
    def shown_console(self) -> str:
        """The name of the console that people are shown."""
        return self.console_name or self.console

    @property
    def host_names(self) -> tuple[str, str, str]:
        """The names and the address of the host, by which its sessions are selected."""
        return self.host, self.address_name, self.address

    @property
    def cursor(self) -> str:
        """The place of the entry in a list that begins with the oldest session."""
        return f"{self.since:020.6f} {self.session}"

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> SessionEntry:
        """Return the entry of a dictionary; fields of other versions are ignored."""
        return cls(**{name: value for name, value in fields.items() if name in cls.__slots__})

    def fields(self) -> dict[str, str | float]:
        """Return the entry as a dictionary."""
        return asdict(self)


def entry_of(session: Session, holder: str, now: float, machine: str = "") -> SessionEntry:
    """Return the entry of a session that this process, on this machine, owns at this time."""
    return SessionEntry(
        session=session.id,
        holder=holder,
        listener=session.request.listener,
        client=str(session.request.client),
        principal=session.principal.name if session.principal else "",
        target=session.shown_target,
        upstream=session.route.upstream.name if session.route else "",
        since=now - session.age,
        host=session.route.destination.name if session.route else "",
        authenticator=session.principal.authenticator if session.principal else "",
        link=session.route.link if session.route else "",
        login=session.principal.login if session.principal else "",
        console=(session.route.console or "") if session.route else "",
        trace_id=session.trace_id,
        address=session.dialled[-1] if session.dialled else "",
        address_name=session.dialled[0] if session.dialled else "",
        machine=machine,
        console_name=session.route.console_name if session.route else "",
    )
