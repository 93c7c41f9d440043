"""Sentences on the opening handshake and on the subprotocol."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from esxiproxy.core.http.head import MAX_HEAD
from esxiproxy.doctor.messages.tls import greeting
from esxiproxy.doctor.opening import MAX_INTERIM, OpeningFault, UpgradeResponse
from esxiproxy.doctor.url import ConsoleUrl

_BY_STATUS = {
    400: "the host, or something before it, does not take the request for a right one: check the path, and "
    "whether a proxy in between changes the Upgrade and Connection fields",
    401: "it wants to know who asks: this is no console's address, or a proxy in between wants a login",
    403: "the ticket was used already, has expired (30 minutes at most) or never was one, or this client "
    "may not come in: ask for a fresh ticket and use it once",
    404: "nothing is served at this path: check it (ESXi's is /ticket/ and the ticket), and that host "
    "and port are those that came with the ticket",
    405: "it does not take a GET there: check the path",
    426: "it wants a WebSocket and did not see one asked for: something in between takes the Upgrade field "
    "away, or it speaks another version than 13",
    429: "too many requests come from here: wait, and ask less often",
    500: "the host failed: look into its log (hostd.log and vmware.log on ESXi)",
    502: "a proxy in between cannot reach what is behind it: look there",
    503: "the service is not available or has too many connections: check the host's services and how many "
    "consoles are open",
    504: "a proxy in between waited for the host in vain: look there",
}


def opening(url: ConsoleUrl, answer: UpgradeResponse, offered: Sequence[str], timeout: float) -> str:
    """On the answer to the request."""
    where = url.place
    match answer.fault:
        case None:
            return f"{where} accepted: 101 with the right accept value"
        case OpeningFault.STATUS:
            return _status(url, answer)
        case OpeningFault.SILENT:
            return (
                f"{where} took the request and stayed silent: no answer within {timeout:g} s. It hangs, "
                "or it waits for a console that cannot start: check the virtual machine and the host's "
                "services"
            )
        case OpeningFault.ENDED | OpeningFault.RESET:
            return _ended(url, answer, offered)
        case OpeningFault.TLS:
            return f"{where} speaks TLS, and the request came to it in plain: take wss:// in the URL"
        case OpeningFault.GARBAGE:
            began = greeting(answer.first)
            return (
                f"{where} answered with something that is no HTTP/1.1: it began with {began}. Some other "
                "service listens there: check the port"
            )
        case OpeningFault.CUT:
            return (
                f"{where} began an answer and stopped within its head. It, or a proxy in between, is broken: "
                "look into their logs"
            )
        case OpeningFault.ENDLESS_HEAD:
            return (
                f"{where} answers with a head that does not end: more than {MAX_HEAD // 1024} KiB. This "
                "is no ESXi host: check host and port, and what stands in between"
            )
        case OpeningFault.INTERIM:
            return (
                f"{where} sent more than {MAX_INTERIM} interim answers (1xx) and no final one. It is broken"
            )
        case OpeningFault.VERSION:
            return (
                f"{where} accepted in HTTP/1.0, and a WebSocket needs HTTP/1.1. A proxy in between is too "
                "old: nginx wants proxy_http_version 1.1"
            )
        case OpeningFault.NO_UPGRADE:
            return (
                f"{where} answered 101 without Upgrade: websocket and Connection: Upgrade. A proxy in "
                "between drops them: let it pass them on"
            )
        case OpeningFault.WRONG_ACCEPT:
            return (
                f"{where} answered 101 with a wrong Sec-WebSocket-Accept: it answers another request than "
                "ours. A cache or a proxy in between is broken, or this is no WebSocket server: go to "
                "the host directly"
            )
        case OpeningFault.EXTENSION:
            return (
                f"{where} chose an extension that was not offered (Sec-WebSocket-Extensions), and no "
                "client takes that. A proxy in between adds it: switch compression off there"
            )


def subprotocol(url: ConsoleUrl, offered: Sequence[str], chosen: Sequence[str]) -> str:
    """On the subprotocol; it is right when one of the offered was chosen, and none when none was offered."""
    where, names = url.place, ", ".join(offered)
    if not chosen:
        if not offered:
            return "none was offered and none was chosen"
        return (
            f"{where} chose no subprotocol, and {names} was offered: browsers drop such a connection. Try "
            "--subprotocol none, and others (binary, vmware-vvc, uint8utf8): a client has to offer what works"
        )
    if len(chosen) > 1 or "," in chosen[0]:
        return f"{where} chose several subprotocols ({', '.join(chosen)}), and one is allowed. It is broken"
    if chosen[0] not in offered:
        against = f"only {names} was" if offered else "none was"
        return (
            f"{where} chose the subprotocol {chosen[0]}, which was not offered ({against}): every client "
            f"drops such a connection. If it is the right host, offer it: --subprotocol {chosen[0]}"
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
            return f"{asked}, a redirect{to}: the service wants TLS. Take wss:// in the URL"
        return (
            f"{asked}, a redirect{to}: a WebSocket follows none. Use that address, or go round what redirects"
        )
    if 200 <= answer.status < 300:
        return (
            f"{asked}: it served a page and opened no WebSocket. Check the path, and whether a proxy in "
            "between passes the Upgrade field on"
        )
    fallback = "look into its log" if answer.status >= 500 else "check the path and who may ask"
    return f"{asked}: {_BY_STATUS.get(answer.status, fallback)}"


def _ended(url: ConsoleUrl, answer: UpgradeResponse, offered: Sequence[str]) -> str:
    if "certificate required" in answer.detail:
        return (
            f"{url.place} wants a certificate of its client ({answer.detail}), and the proxy shows none to "
            "upstreams: switch that off on the host, or on what stands before it"
        )
    how = "reset" if answer.fault is OpeningFault.RESET else "closed"
    names = ", ".join(offered)
    offer = f"({names} was offered)" if offered else "(none was offered: try --subprotocol binary)"
    port = "" if url.secure else ", and whether the port wants TLS (wss://)"
    return (
        f"{url.place} {how} the connection without an answer. ESXi does so with a client whose "
        f"subprotocol it does not speak {offer}, and when it has too many connections (128): check "
        f"these{port}"
    )
