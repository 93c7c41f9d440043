"""Messages about the opening handshake and the subprotocol."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.doctor.messages.tls import greeting
from esxiproxy.doctor.opening import MAX_INTERIM, OpeningFault, UpgradeResponse
from esxiproxy.doctor.url import ConsoleUrl

_BY_STATUS = {
    400: "the host, or a proxy in between, rejects the request as malformed: check the path, and whether a "
    "proxy in between changes the Upgrade and Connection fields",
    401: "it requires authentication: check that this is a console's URL, and whether a proxy in between "
    "requires a login",
    403: "the ticket was used already, has expired (after 30 minutes at most) or is invalid, or this client "
    "is not allowed: request a new ticket and use it once",
    404: "nothing is served at this path: check it (on ESXi it is /ticket/ and the ticket), and that host "
    "and port are those issued with the ticket",
    405: "it does not accept GET at this path: check the path",
    426: "it requires a WebSocket handshake and received none: a proxy in between removes the Upgrade field, "
    "or the host speaks another version than 13",
    429: "this client sends too many requests: wait, and send fewer",
    500: "the host failed: check its log (hostd.log and vmware.log on ESXi)",
    502: "a proxy in between cannot reach its upstream: check the proxy's log",
    503: "the service is unavailable or has too many connections: check the host's services and how many "
    "consoles are open",
    504: "a proxy in between got no answer from its upstream: check the proxy's log and the host",
}


def opening(url: ConsoleUrl, answer: UpgradeResponse, offered: Sequence[str], timeout: float) -> str:
    """Describe the answer to the handshake."""
    where = url.place
    match answer.fault:
        case None:
            return f"{where} accepted the handshake: 101 with the right Sec-WebSocket-Accept"
        case OpeningFault.STATUS:
            return _status(url, answer)
        case OpeningFault.SILENT:
            return (
                f"{where} did not answer the request within {timeout:g} s. The host hangs, or waits for a "
                "console that cannot start: check the virtual machine and the host's services"
            )
        case OpeningFault.ENDED | OpeningFault.RESET:
            return _ended(url, answer, offered)
        case OpeningFault.TLS:
            return f"{where} expects TLS, and the URL has ws://: use wss:// in the URL"
        case OpeningFault.GARBAGE:
            began = greeting(answer.first)
            return (
                f"the answer of {where} is not HTTP/1.1: it began with {began}. Another service listens "
                "on this port: check the port"
            )
        case OpeningFault.CUT:
            return (
                f"the answer of {where} stopped within its head. The host or a proxy in between is broken: "
                "check their logs"
            )
        case OpeningFault.ENDLESS_HEAD:
            return (
                f"the answer of {where} has a head of more than {MAX_HEAD // 1024} KiB. This is not an ESXi "
                "host: check host and port, and the proxies in between"
            )
        case OpeningFault.INTERIM:
            return (
                f"{where} sent more than {MAX_INTERIM} interim answers (1xx) and no final one. The host is "
                "broken: check host and port"
            )
        case OpeningFault.VERSION:
            return (
                f"{where} accepted in HTTP/1.0, and a WebSocket needs HTTP/1.1. A proxy in between uses "
                "HTTP/1.0: in nginx, set proxy_http_version 1.1"
            )
        case OpeningFault.NO_UPGRADE:
            return (
                f"{where} answered 101 without Upgrade: websocket and Connection: Upgrade. A proxy in "
                "between removes them: configure it to forward them"
            )
        case OpeningFault.WRONG_ACCEPT:
            return (
                f"{where} answered 101 with a wrong Sec-WebSocket-Accept, which belongs to another request. "
                "A cache or proxy in between is broken, or this is not a WebSocket server: connect to the "
                "host directly"
            )
        case OpeningFault.EXTENSION:
            return (
                f"{where} chose an extension that was not offered (Sec-WebSocket-Extensions), which every "
                "client rejects. A proxy in between adds it: switch compression off there"
            )


def subprotocol(url: ConsoleUrl, offered: Sequence[str], chosen: Sequence[str]) -> str:
    """Describe the choice of a subprotocol.

    The choice is right if one of the offered was chosen, or if none was offered and none was chosen.
    """
    where, names = url.place, ", ".join(offered)
    if not chosen:
        if not offered:
            return "no subprotocol was offered and none was chosen"
        return (
            f"{where} chose no subprotocol, and {names} was offered: browsers close such a connection. Try "
            "--subprotocol none, or others (binary, vmware-vvc, uint8utf8), and let the client offer the one "
            "that works"
        )
    if len(chosen) > 1 or "," in chosen[0]:
        return (
            f"{where} chose several subprotocols ({', '.join(chosen)}), and only one is allowed. The host is "
            "broken: offer one alone with --subprotocol"
        )
    if chosen[0] not in offered:
        against = f"only {names} was" if offered else "none was"
        return (
            f"{where} chose the subprotocol {chosen[0]}, which was not offered ({against}): every client "
            f"closes such a connection. If it is the right host, offer it: --subprotocol {chosen[0]}"
        )
    return f"{where} chose {chosen[0]}"


def _status(url: ConsoleUrl, answer: UpgradeResponse) -> str:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = answer.reason
    asked = f"{url.place} answered {answer.status} {phrase} instead of 101"
    if 300 <= answer.status < 400:
        location = answer.values(b"location")
        to = f" to {location[0].decode('latin-1').partition('?')[0]}" if location else ""
        if not url.secure and location and location[0].lower().startswith((b"https:", b"wss:")):
            return f"{asked}, a redirect{to}: the service requires TLS. Use wss:// in the URL"
        return f"{asked}, a redirect{to}: a WebSocket client follows no redirect. Use that address in the URL"
    if 200 <= answer.status < 300:
        return (
            f"{asked}: it served a page and opened no WebSocket. Check the path, and whether a proxy in "
            "between forwards the Upgrade field"
        )
    fallback = "check its log" if answer.status >= 500 else "check the path and the client's permission"
    return f"{asked}: {_BY_STATUS.get(answer.status, fallback)}"


def _ended(url: ConsoleUrl, answer: UpgradeResponse, offered: Sequence[str]) -> str:
    if "certificate required" in answer.detail:
        return (
            f"{url.place} requires a client certificate ({answer.detail}), and the proxy sends none to "
            "upstreams: switch that off on the host, or on the proxy in front of it"
        )
    how = "reset" if answer.fault is OpeningFault.RESET else "closed"
    names = ", ".join(offered)
    offer = f"({names} was offered)" if offered else "(none was offered: try --subprotocol binary)"
    port = "" if url.secure else ", and whether the port expects TLS (wss://)"
    return (
        f"{url.place} {how} the connection without an answer. ESXi does so if it does not speak the "
        f"subprotocol of the client {offer}, and if it has too many connections (128): check these{port}"
    )
