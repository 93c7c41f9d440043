"""The record of a session, written at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.peer_address import PeerAddress


class Kind(Enum):
    """The kind of a session."""

    CONSOLE = "console"
    HTTP = "http"


CONSOLE, HTTP = Kind.CONSOLE, Kind.HTTP  # a member of an Enum takes long to look up in Python 3.11


@dataclass(slots=True)  # not frozen, because Session.record() would take five times as long
class Record:
    """One console session, or one plain HTTP request with its response.  It does not change.

    ``upstream``, ``host``
        the section of the upstream, whose settings the session had, and the name of its host.
    ``is_host_listed``
        whether the host is configured or in an inventory, so that metrics may name it.
    ``console``, ``console_name``
        the console as the router names it, such as ``dc1/UUID``, and its name for people, such as that of the
        virtual machine; both empty where the router knows none.
    ``status``
        the HTTP status sent to the client: 101 or a refusal's status; 499 if the client left before.
    ``close_code``
        the code of the Close frame that ended the session; None without a Close or without a code.
    ``ended_by``
        the side that ended the session first: ``client``, ``upstream`` or ``proxy``.
    ``error``, ``detail``
        the class name of the failure and a sentence about it, both empty after a regular end.
    ``timeout``
        the configuration key of the timeout that caused the failure, or ``close_timeout`` after a regular end
        whose closing handshake timed out, else empty.
    ``octets_up``, ``octets_down``
        bytes relayed to the upstream and to the client: frames with their headers, HTTP bodies without
        framing.
    ``round_trip``
        seconds between the last ping to the client and its pong; None without a pong.
    ``phases``
        seconds from the accepted request to each step that was reached: ``authenticated``, ``routed``,
        ``opened``, ``closed``; for HTTP ``connected`` and ``answered`` in place of ``opened``.
    ``trace_id``
        the id of the trace in the client's ``traceparent``; empty without a valid one.
    ``method``
        the method of the request; empty if its head could not be parsed.
    ``machine``
        the machine of a session that another machine has recorded as lost; else empty.
    """

    session: str
    listener: str
    client: PeerAddress
    principal: str
    target: str
    upstream: str
    status: int
    close_code: int | None
    ended_by: str
    error: str
    detail: str
    octets_up: int
    octets_down: int
    phases: Mapping[str, float]
    kind: Kind = Kind.CONSOLE
    method: str = "GET"
    round_trip: float | None = None
    timeout: str = ""
    host: str = ""
    is_host_listed: bool = False
    console: str = ""
    console_name: str = ""
    trace_id: str = ""
    machine: str = ""
