"""The shared list entry of a session, for all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from esxiproxy.core.session.session import Session


@dataclass(slots=True)  # not frozen, because entry_of() would take four times as long
class SessionEntry:
    """A session in the shared list of sessions.  It does not change.

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
    principal, route, dialled = session.principal, session.route, session.dialled
    entry = SessionEntry.__new__(SessionEntry)
    entry.session = session.id
    entry.holder = holder
    entry.listener = session.request.listener
    entry.client = str(session.request.client)
    entry.target = session.shown_target
    entry.since = now - session.age
    entry.trace_id = session.trace_id
    entry.machine = machine
    if principal is None:
        entry.principal = entry.authenticator = entry.login = ""
    else:
        entry.principal = principal.name
        entry.authenticator = principal.authenticator
        entry.login = principal.login
    if route is None:
        entry.upstream = entry.host = entry.link = entry.console = entry.console_name = ""
    else:
        entry.upstream = route.upstream.name
        entry.host = route.destination.name
        entry.link = route.link
        entry.console = route.console or ""
        entry.console_name = route.console_name
    entry.address, entry.address_name = (dialled[-1], dialled[0]) if dialled else ("", "")
    return entry
