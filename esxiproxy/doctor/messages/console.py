"""Messages about the open WebSocket."""

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
    """Describe the first frame; ``closed`` is the host's Close if it sent one."""
    where = url.place
    match seen.fault:
        case None:
            return _received(where, seen)
        case ConsoleFault.CLOSED:
            assert closed is not None
            return (
                f"{where} closed the WebSocket right after the 101, with {close(closed)}. The console "
                "does not start: check that the virtual machine is running and how many of its consoles "
                "are open (RemoteDisplay.maxConnections)"
            )
        case ConsoleFault.SILENT:
            return (
                f"{where} opened the WebSocket and sent no frame within {timeout:g} s. An RFB server sends "
                "first: check that the virtual machine is running, or try another subprotocol"
            )
        case ConsoleFault.VIOLATION:
            return (
                f"{where} violated the WebSocket protocol: it sent {seen.detail}. A proxy in between "
                "changes the stream, or this is not an ESXi host: connect to the host directly"
            )
        case _:
            how = "reset" if seen.fault is ConsoleFault.RESET else "dropped"
            return (
                f"{where} {how} the connection right after the 101, without a Close. The console does not "
                "start, or a proxy or firewall closes the connection: check the virtual machine, its log "
                "(vmware.log) and the firewalls"
            )


def ping(answered: bool, waited: float) -> str:
    """Describe whether a Ping was answered."""
    if answered:
        return "the host answered a ping: upstream_ping_interval can be used for it"
    return (
        f"the host did not answer a ping within {waited:g} s, as ESXi does: leave upstream_ping_interval off"
    )


def closing(answered: bool, closed: tuple[int, str] | None, waited: float) -> str:
    """Describe the closing handshake."""
    if answered and closed is not None:
        return f"the WebSocket is closed; the host's Close has {close(closed)}"
    return f"the host did not answer the Close within {waited:g} s, so TCP was closed, as the proxy does"


def close(closed: tuple[int, str]) -> str:
    """Return the code and reason of a Close as text."""
    code, reason = closed
    meaning = f" ({_CLOSE_CODES[code]})" if code in _CLOSE_CODES else ""
    return f"code {code}{meaning}" + (f" and the reason “{reason}”" if reason else "")


def _received(where: str, seen: FirstFrame) -> str:
    assert seen.frame is not None
    kind = f"a {OPCODES[seen.frame.opcode]} frame of {seen.frame.length} bytes"
    if seen.rfb:
        return f"{where} sent {kind}: RFB {seen.rfb}, a console"
    return f"{where} sent {kind}, which is not an RFB version: noVNC cannot show this console"
