"""Commands that one process sends to the processes that own the selected sessions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

from esxiproxy.core.errors import Draining, Killed, Replaced, SessionError
from esxiproxy.core.host_name import host_key
from esxiproxy.core.session.entry import SessionEntry
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session


class CommandKind(Enum):
    """The kind of a command."""

    KILL = "kill"
    """End the session with close code 1008."""
    DRAIN = "drain"
    """End the session as at a shutdown, with close code 1001, after which a client may reconnect."""
    REPLACE = "replace"
    """End the session that has the mark of a link, with close code 1008: another opening replaces it."""


class SelectorKind(Enum):
    """The property of sessions that a selector compares."""

    SESSION = "session"
    LOGIN = "login"
    PRINCIPAL = "principal"
    HOST = "host"
    UPSTREAM = "upstream"
    LISTENER = "listener"
    LINK = "link"
    MACHINE = "machine"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Selector:
    """The sessions that a command is for: those whose property of this kind has this value."""

    kind: SelectorKind
    value: str = ""

    def selects(self, session: Session) -> bool:
        """Return whether this session is selected."""
        if self.kind is SelectorKind.ALL:
            return True
        if self.kind is SelectorKind.SESSION:
            return session.id == self.value
        if self.kind is SelectorKind.LISTENER:
            return session.request.listener == self.value
        if self.kind is SelectorKind.PRINCIPAL:
            return session.principal is not None and self.value in session.principal.names
        if self.kind is SelectorKind.LOGIN:
            if session.kind is not Kind.CONSOLE:  # the request that ends the login gets its answer
                return False
            return session.principal is not None and session.principal.login == self.value != ""
        if session.route is None:
            return False
        if self.kind is SelectorKind.HOST:
            names = (session.route.destination.name, *session.dialled)
            return host_key(self.value) in map(host_key, names)
        if self.kind is SelectorKind.LINK:
            return session.route.link == self.value != ""
        if self.kind is SelectorKind.MACHINE:
            return session.route.console == self.value
        return session.route.upstream.name == self.value

    def lists(self, entry: SessionEntry) -> bool:
        """Return whether the entry of a session in the shared list is selected."""
        if self.kind is SelectorKind.PRINCIPAL:
            section = entry.authenticator.partition(" ")[2]
            return self.value in (entry.principal, f"{section}/{entry.principal}")
        if self.kind is SelectorKind.HOST:
            return host_key(self.value) in map(host_key, entry.host_names)
        if self.kind is SelectorKind.LINK:
            return entry.link == self.value != ""
        if self.kind is SelectorKind.LOGIN:
            return entry.login == self.value != ""
        if self.kind is SelectorKind.MACHINE:
            return entry.console == self.value != ""
        return self.kind is SelectorKind.ALL or getattr(entry, self.kind.value) == self.value


@dataclass(frozen=True, slots=True)
class Command:
    """A command for one session or for all that a selector selects, with the reason that both peers get.

    ``selector`` is None for a command to the session whose id is ``session``.  ``sent`` is the time of day of
    a REPLACE: when a process receives it, the session that replaces the others may have the mark already.
    """

    kind: CommandKind
    session: str = ""
    reason: str = ""
    selector: Selector | None = None
    sent: float = inf

    def fields(self) -> list[str]:
        """Return the command as three texts.

        Older versions read the second one as the id of a session, and ignore an unknown id.
        """
        to = self.session if self.selector is None else f"{self.selector.kind.value}:{self.selector.value}"
        return [self.kind.value, to, repr(self.sent) if self.kind is CommandKind.REPLACE else self.reason]

    @classmethod
    def from_fields(cls, kind: str, to: str, reason: str) -> Command:
        """Return the command of these texts.  Raises ValueError for a kind of another version."""
        name, colon, value = to.partition(":")
        selector = Selector(SelectorKind(name), value) if colon else None
        session = "" if colon else to
        if CommandKind(kind) is CommandKind.REPLACE:
            return cls(CommandKind.REPLACE, session, selector=selector, sent=float(reason or inf))
        return cls(CommandKind(kind), session, reason, selector)

    def selects(self, session: Session) -> bool:
        """Return whether this session is to be ended."""
        if self.kind is CommandKind.REPLACE and (session.marked_at is None or session.marked_at > self.sent):
            return False
        return session.id == self.session if self.selector is None else self.selector.selects(session)

    @property
    def error(self) -> SessionError:
        """The error that the session ends with."""
        if self.kind is CommandKind.DRAIN:
            return Draining(self.reason or "the proxy is shutting down")
        if self.kind is CommandKind.REPLACE:
            return Replaced("replaced")
        return Killed(self.reason or "ended by an operator")
