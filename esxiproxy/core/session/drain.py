"""Drains: the proxies, listeners, upstreams and hosts that take no new consoles."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from math import inf, isfinite
from typing import Any

from esxiproxy.core.host_name import host_key
from esxiproxy.core.networks import canonical
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.core.session.session import Session
from esxiproxy.core.strict_json import strict_json

MAX_NAME = 255
"""Maximum number of characters of a name, of a machine, of a run and of the person who asks."""
MAX_REASON = 500
"""Maximum number of characters of a reason.  A Close carries the first 123 bytes."""
DEFAULT_REASON = "draining"
"""The reason in the Close of a drain that has none."""

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


class InvalidDrain(ValueError):
    """A drain has a value that it may not have.  The text does not repeat the value."""


class DrainKind(Enum):
    """The kind of an object that is drained."""

    PROXY = "proxy"
    """All listeners of one machine."""
    LISTENER = "listener"
    """One listener of one machine."""
    UPSTREAM = "upstream"
    """One upstream section, on all machines."""
    HOST = "host"
    """One host, by its name or an address, on all machines."""

    @property
    def is_local(self) -> bool:
        """Whether a drain of this kind holds on one machine, until its master ends."""
        return self in (DrainKind.PROXY, DrainKind.LISTENER)


@dataclass(frozen=True, slots=True)
class Drain:
    """A proxy, listener, upstream or host that takes no new consoles.

    ``name`` is empty for a proxy.  The name of a host is kept in the form of :func:`host_key`.  ``machine``
    and ``run`` are those of the master for a proxy or a listener, else empty.  ``since`` is the time of day
    at which it was drained, and ``end`` the one at which its running consoles are closed.  ``by`` names the
    person who asked, for people.  Raises InvalidDrain.
    """

    kind: DrainKind
    name: str = ""
    machine: str = ""
    run: str = ""
    since: float = 0.0
    end: float = inf
    by: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.kind is DrainKind.HOST:
            object.__setattr__(self, "name", host_key(self.name))
        object.__setattr__(self, "machine", host_key(self.machine))
        for what, text, most in (
            ("name", self.name, MAX_NAME),
            ("machine", self.machine, MAX_NAME),
            ("run", self.run, MAX_NAME),
            ("person", self.by, MAX_NAME),
            ("reason", self.reason, MAX_REASON),
        ):
            _check_text(what, text, most)
        if bool(self.name) is (self.kind is DrainKind.PROXY):
            raise InvalidDrain("a listener, an upstream or a host has a name, and a proxy has none")
        if not (bool(self.machine) is bool(self.run) is self.kind.is_local):
            raise InvalidDrain("a proxy or a listener has a machine and a run, and nothing else has them")
        if not isfinite(self.since):
            raise InvalidDrain("the time since which it is drained is no time of day")
        if not (isfinite(self.end) or self.end == inf):
            raise InvalidDrain("the end is no time of day")

    @property
    def subject(self) -> str:
        """The drained object for a message, such as ``host esxi1.example.com``."""
        where = f" on {self.machine}" if self.machine else ""
        return f"{self.kind.value} {self.name}".rstrip() + where

    @property
    def value(self) -> str:
        """The value of the drain in the state."""
        fields = {name: getattr(self, name) for name in _TEXTS}
        end = None if self.end == inf else self.end
        return json.dumps({"kind": self.kind.value, **fields, "since": self.since, "end": end})

    def is_of(self, run: str) -> bool:
        """Return whether the drain holds in the processes of a run: that of another run does not.

        The machine does not matter, since its name may change over a reload, and a run has one machine.
        """
        return not self.kind.is_local or self.run == run

    @property
    def target(self) -> tuple[DrainKind, str, str]:
        """The drained object: its kind, the run of a proxy or a listener, and its name."""
        return self.kind, self.run, self.name

    def covers(self, session: Session) -> bool:
        """Return whether a session of this process uses the drained object.

        A session uses the host by the name of its destination, and by the address that was dialled for it.
        """
        if self.kind is DrainKind.PROXY:
            return True
        if self.kind is DrainKind.LISTENER:
            return session.request.listener == self.name
        if session.route is None:
            return False
        if self.kind is DrainKind.UPSTREAM:
            return session.route.upstream.name == self.name
        names = (session.route.destination.name, *session.dialled)
        return any(host_key(name) == self.name for name in names)


_TEXTS = ("name", "machine", "run", "by", "reason")


def _check_text(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise InvalidDrain(f"the {what} is longer than {most} characters")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise InvalidDrain(f"the {what} has a control character")


def is_address(name: str) -> bool:
    """Return whether this is an IP address and no name."""
    try:
        canonical(name)
    except ValueError:
        return False
    return True


def drain_key(drain: Drain) -> str:
    """Return the key of a drain in the state.

    One object of one run has one key, until the name of its machine changes.
    """
    return json.dumps([drain.kind.value, drain.machine, drain.run, drain.name])


def read_drain(value: str) -> Drain:
    """Return the drain of a value in the state; fields of other versions are ignored.

    Raises InvalidDrain.
    """
    try:
        found = strict_json(value.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise InvalidDrain(str(error)) from None
    if not isinstance(found, dict):
        raise InvalidDrain("it is no object")
    texts = {name: found.get(name, "") for name in _TEXTS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidDrain("a text is no string")
    try:
        kind = DrainKind(found.get("kind"))
    except ValueError:
        raise InvalidDrain("the kind is unknown") from None
    end = found.get("end")
    return Drain(
        kind=kind,
        since=_time_of_day(found.get("since")),
        end=inf if end is None else _time_of_day(end),
        **texts,
    )


def _time_of_day(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidDrain("a time is no number")
    return float(value)


_ORDER = {kind: number for number, kind in enumerate(DrainKind)}


def in_order(drains: Iterable[Drain]) -> list[Drain]:
    """Return drains by their kind, their name and their machine."""
    return sorted(drains, key=lambda drain: (_ORDER[drain.kind], drain.name, drain.machine, drain.run))


class Drains:
    """An immutable set of drains, as it holds in one process.

    Drains of proxies and listeners of another run are in ``all`` only.
    """

    __slots__ = (
        *("_hosts", "_listeners", "_upstreams", "all", "ends", "has_addresses", "has_hosts", "has_own"),
        "proxy",
    )

    def __init__(self, identity: ProcessIdentity, drains: Iterable[Drain] = ()) -> None:
        self.all = tuple(in_order(drains))
        """All drains, in order."""
        own = [drain for drain in self.all if drain.is_of(identity.run)]
        self.has_own = bool(own)
        """Whether anything is drained in this process."""
        self.ends = tuple(drain for drain in own if drain.end != inf)
        """The drains that hold here and have an end."""
        self.proxy = next((drain for drain in own if drain.kind is DrainKind.PROXY), None)
        """The drain of the whole proxy, or None."""
        self._listeners = {drain.name: drain for drain in own if drain.kind is DrainKind.LISTENER}
        self._upstreams = {drain.name: drain for drain in own if drain.kind is DrainKind.UPSTREAM}
        self._hosts = {drain.name: drain for drain in own if drain.kind is DrainKind.HOST}
        self.has_hosts = bool(self._hosts)
        """Whether a host is drained."""
        self.has_addresses = any(is_address(name) for name in self._hosts)
        """Whether a host is drained by an address."""

    def of_listener(self, name: str) -> Drain | None:
        """Return the drain of the whole proxy or of a listener, or None."""
        return self.proxy or self._listeners.get(name)

    def of_upstream(self, name: str) -> Drain | None:
        """Return the drain of an upstream, by the name of its section, or None."""
        return self._upstreams.get(name)

    def of_host(self, *names: str) -> Drain | None:
        """Return the drain of a host that has one of these names or addresses, or None."""
        if not self._hosts:
            return None
        return next((drain for name in names if (drain := self._hosts.get(host_key(name)))), None)
