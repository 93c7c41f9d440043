"""TCP connections to every address of a host, opened in parallel within one deadline."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from esxiproxy.doctor.addresses import Endpoint
from esxiproxy.doctor.deadline import Deadline

_GRACE = 0.5
"""Seconds that the other addresses are waited for after one has answered."""
_PENDING = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})
_UNREACHABLE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)


class DialOutcome(Enum):
    """The outcome of a connection to one address."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DialAttempt:
    """One address and the outcome of the connection to it."""

    endpoint: Endpoint
    outcome: DialOutcome
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.endpoint} {self.outcome.value}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class DialResult:
    """All attempts in order, and the open socket to the first address that answered."""

    attempts: tuple[DialAttempt, ...]
    chosen: DialAttempt | None
    socket: socket.socket | None


def dial(endpoints: Sequence[Endpoint], deadline: Deadline) -> DialResult:
    """Connect to each endpoint.  The caller owns the returned socket; all others are closed."""
    reached: dict[Endpoint, DialAttempt] = {}
    sockets: dict[Endpoint, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for endpoint in endpoints:
            try:
                opened = sockets[endpoint] = socket.socket(endpoint.family, socket.SOCK_STREAM)
                opened.setblocking(False)
                code = opened.connect_ex(endpoint.address)
            except OSError as error:
                code = error.errno or errno.EINVAL
            if code in _PENDING:
                selector.register(opened, selectors.EVENT_WRITE, endpoint)
            else:
                reached[endpoint] = _attempt(endpoint, code)
        _collect(selector, reached, deadline)
    attempts = tuple(
        reached.get(endpoint, DialAttempt(endpoint, DialOutcome.TIMED_OUT)) for endpoint in endpoints
    )
    chosen = next((attempt for attempt in attempts if attempt.outcome is DialOutcome.ANSWERED), None)
    kept = None if chosen is None else sockets.pop(chosen.endpoint)
    for left in sockets.values():
        left.close()
    return DialResult(attempts, chosen, kept)


def _collect(
    selector: selectors.BaseSelector, reached: dict[Endpoint, DialAttempt], deadline: Deadline
) -> None:
    """Wait for pending connections until the deadline, or for ``_GRACE`` seconds after the first answer."""
    graced = False
    while selector.get_map():
        if not graced and any(attempt.outcome is DialOutcome.ANSWERED for attempt in reached.values()):
            deadline, graced = deadline.capped(_GRACE), True
        try:
            ready = selector.select(deadline.remaining())
        except TimeoutError:
            return
        for key, _events in ready:
            opened = key.fileobj
            assert isinstance(opened, socket.socket)
            selector.unregister(opened)
            code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            reached[key.data] = _attempt(key.data, code)


def _attempt(endpoint: Endpoint, code: int) -> DialAttempt:
    if code == 0:
        return DialAttempt(endpoint, DialOutcome.ANSWERED)
    if code == errno.ECONNREFUSED:
        return DialAttempt(endpoint, DialOutcome.REFUSED)
    if code == errno.ETIMEDOUT:
        return DialAttempt(endpoint, DialOutcome.TIMED_OUT)
    detail = os.strerror(code)
    return DialAttempt(
        endpoint, DialOutcome.UNREACHABLE if code in _UNREACHABLE else DialOutcome.FAILED, detail
    )
