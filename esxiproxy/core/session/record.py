"""What is kept of a session when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from esxiproxy.core.peer_address import PeerAddress


class Kind(Enum):
    """What a session was."""

    CONSOLE = "console"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Record:
    """One session, from its opening handshake to the end; or one plain HTTP request with its answer.

    ``status``
        the HTTP status that the client got: 101, or the refusal's; 499 when it left before.
    ``close_code``
        the code of the Close that ended the session; None when there was none or it had no code.
    ``ended_by``
        ``client``, ``upstream`` or ``proxy``: who showed the end first.
    ``error``, ``detail``
        the failure's name in the error table and a sentence about it, both empty for a clean end.
    ``timeout``
        the key of the configuration whose time was up, empty where none was: what the failure came of, or,
        for a clean end, ``close_timeout``.
    ``octets_up``, ``octets_down``
        relayed bytes toward the upstream and toward the client: frames with their headers, HTTP bodies
        without their framing.
    ``round_trip``
        seconds that the client's last pong took; None where none came.
    ``phases``
        seconds from the accepted request to each step that was reached: ``authenticated``, ``routed``,
        ``opened``, ``closed``; for HTTP ``connected`` and ``answered`` in place of ``opened``.
    ``method``
        the request's; empty when its head could not be read.
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
