"""One way in which a session can fail, with its expected effects."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.scripts import echo
from tests.support.websocket_peers import Client, Script

Act = Callable[[Client], object]
ECHO = echo()


class Stage(enum.Enum):
    """The stage of a session; the value is the heading in the documentation."""

    HEAD = "Request head"
    DECISION = "Authentication and routing"
    LIMITS = "Limits"
    DIAL = "Dialling the upstream"
    OPENING = "Upstream handshake"
    OPEN = "Open console"
    CLOSING = "Closing handshake"
    HTTP = "Plain HTTP"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    ``status``
        the status of the client's answer; 101 for an open console, None if no client is left to read it.
    ``close``
        the close code that the client gets after its 101, None without one.
    ``upstream_close``
        the close code that the upstream gets.
    ``error``, ``ended_by``
        the values of the record; ``recorded`` is False where there is no session.
    ``timeout``
        the key of the timeout that ended the session, as in the record.
    ``recorded_status``
        the record's status, where that is not ``status``.
    ``beside``
        the number of other sessions, which do not fail.
    ``proxy_status``
        the name of the error in the field `Proxy-Status`, for rows that check it.
    ``detail``
        a regular expression for the record's detail, for rows that check it.
    ``act``
        the act of the client, which then reads to the end, unless it has closed.
    """

    stage: Stage
    how: str
    act: Act
    status: int | None = None
    close: int | None = None
    error: str | None = None
    ended_by: str | None = "client"
    upstream: Script = ECHO
    upstream_close: int | None = None
    listener: str = "plain"
    raw: bool = False
    recorded: bool = True
    recorded_status: int | None = None
    kind: str = "console"
    beside: int = 0
    timeout: str | None = None
    proxy_status: str | None = None
    detail: str = ""
