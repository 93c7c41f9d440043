"""The end of a connection that is given time, and never more than that."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport


def half_close(transport: Any) -> None:
    """Say that nothing more will come, after what is queued, and go on reading.

    Closing a socket that has unread input resets the connection, and the reset may overtake the answer that
    tells the peer why.  TCP has the half-close for that; TLS sends its close_notify and waits for the peer's.
    (A TLS transport offers TCP's ``loseWriteConnection`` too, but past the encryption: never call it.)
    """
    if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
        transport.loseConnection()
    else:
        transport.loseWriteConnection()


def linger(transport: Any, clock: IReactorTime, timeout: float) -> IDelayedCall:
    """Half-close, and abort after ``timeout`` seconds: a peer that does not read never frees the descriptor.

    The caller cancels the returned call when the connection is lost.
    """
    half_close(transport)
    return clock.callLater(timeout, transport.abortConnection)
