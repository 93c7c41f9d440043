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
        what the client is answered; 101 when the console was open, None when nobody is there to read it.
    ``close``
        the close code that the client gets after its 101; None when there is none to be had.
    ``upstream_close``
        the one that the upstream gets.
    ``error``, ``ended_by``
        what the record says; ``recorded`` is False where there is no session to speak of.
    ``timeout``
        the key of the configuration whose time was up, as the record names it.
    ``recorded_status``
        the record's status, where that is not ``status``.
    ``beside``
        how many good sessions there are beside the one that fails.
    ``proxy_status``
        the name of the error in the field `Proxy-Status`, for rows that check it.
    ``detail``
        a regular expression for the record's detail, for rows that check it.
    ``act``
        what the client does, as if it knew no better; then it reads to the end, unless it has gone.
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
