"""Sentences on what the console does once it is open."""

from __future__ import annotations

from esxiproxy.doctor.console import ConsoleFault, FirstFrame
from esxiproxy.doctor.frames import OPCODES
from esxiproxy.doctor.url import ConsoleUrl

_CLOSE_CODES = {
    1000: "normal",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported",
    1005: "no code",
    1007: "invalid payload",
    1008: "policy",
    1009: "message too big",
    1011: "internal error",
    1012: "restart",
    1013: "try again later",
}


def first_frame(url: ConsoleUrl, seen: FirstFrame, closed: tuple[int, str] | None, timeout: float) -> str:
    """On what came first; ``closed`` is the host's Close, if it came."""
    where = url.place
    match seen.fault:
        case None:
            return _received(where, seen)
        case ConsoleFault.CLOSED:
            assert closed is not None
            return (
                f"{where} closed the WebSocket right after the 101, with {close(closed)}. The console "
                "does not start: check that the virtual machine runs, and how many consoles it has open "
                "(RemoteDisplay.maxConnections)"
            )
        case ConsoleFault.SILENT:
            return (
                f"{where} opened the WebSocket and stayed silent: no frame within {timeout:g} s, and an RFB "
                "server speaks first. Check that the virtual machine runs; another subprotocol may be wanted"
            )
        case ConsoleFault.VIOLATION:
            return (
                f"{where} broke the WebSocket protocol: it sent {seen.detail}. Something in between "
                "changes the stream, or this is no ESXi host: go to the host directly"
            )
        case _:
            how = "reset" if seen.fault is ConsoleFault.RESET else "dropped"
            return (
                f"{where} {how} the connection right after the 101, without a Close. The console does not "
                "start, or something in between cuts it: check the virtual machine, its log (vmware.log) "
                "and firewalls"
            )


def ping(answered: bool, waited: float) -> str:
    """On whether a Ping is answered."""
    if answered:
        return "a ping was answered: upstream_ping_interval may be used for this host"
    return (
        f"a ping was not answered within {waited:g} s; ESXi answers none either: leave "
        "upstream_ping_interval off"
    )


def closing(answered: bool, closed: tuple[int, str] | None, waited: float) -> str:
    """On the closing handshake."""
    if answered and closed is not None:
        return f"closed, the host's Close has {close(closed)}"
    return f"our Close was not answered within {waited:g} s, so TCP was closed; the proxy does the same"


def close(closed: tuple[int, str]) -> str:
    """A Close's code and reason."""
    code, reason = closed
    meaning = f" ({_CLOSE_CODES[code]})" if code in _CLOSE_CODES else ""
    return f"code {code}{meaning}" + (f" and the reason “{reason}”" if reason else "")


def _received(where: str, seen: FirstFrame) -> str:
    assert seen.frame is not None
    kind = f"a {OPCODES[seen.frame.opcode]} frame of {seen.frame.length} bytes"
    if seen.rfb:
        return f"{where} sent {kind}: RFB {seen.rfb}, a console"
    return f"{where} sent {kind}, which is no RFB version: another kind of console, or none (noVNC needs RFB)"
