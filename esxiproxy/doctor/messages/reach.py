"""Sentences on the way to the host: its addresses, and TCP."""

from __future__ import annotations

from esxiproxy.doctor.addresses import DnsFault, Resolution
from esxiproxy.doctor.dial import Attempt, DialResult, Reach
from esxiproxy.doctor.url import ConsoleUrl

_PROXY_SEES = "what counts is the machine on which the proxy runs"


def dns(url: ConsoleUrl, resolution: Resolution, timeout: float) -> str:
    """On the addresses of the host's name."""
    match resolution.fault:
        case None if url.literal:
            return f"{url.host} is an address: there is no name to resolve"
        case None:
            count = len(resolution.endpoints)
            return f"{url.host} has {count} address{'es' if count > 1 else ''}"
        case DnsFault.UNKNOWN:
            return (
                f"the name {url.host} does not resolve: no name server knows an address for it. Check its "
                "spelling, ask for the full name with its domain, or give the host's IP address; "
                f"{_PROXY_SEES}"
            )
        case DnsFault.NO_ANSWER:
            return (
                f"the name {url.host} does not resolve: no name server gave an answer. Check "
                "/etc/resolv.conf and the way to the name server, or give the host's IP address; "
                f"{_PROXY_SEES}"
            )
        case DnsFault.TIMED_OUT:
            return (
                f"the name {url.host} did not resolve within {timeout:g} s: the name servers do not answer. "
                "Check /etc/resolv.conf and the way to them, or give the host's IP address"
            )
        case _:
            return f"the name {url.host} does not resolve: {resolution.detail}. Check the system's resolver"


def tcp(url: ConsoleUrl, dialled: DialResult, timeout: float) -> str:
    """On the connections to the addresses."""
    failed = [attempt for attempt in dialled.attempts if attempt.reach is not Reach.ANSWERED]
    if dialled.chosen is None:
        return _unreached(url, failed, timeout)
    sentence = f"{dialled.chosen.endpoint} port {url.port} answered"
    if failed:
        others = ", ".join(map(str, failed))
        return f"{sentence}; not all addresses of {url.host} do ({others}): take those out of its DNS entry"
    return sentence


def _unreached(url: ConsoleUrl, failed: list[Attempt], timeout: float) -> str:
    reaches = {attempt.reach for attempt in failed}
    where = ", ".join(str(attempt.endpoint) for attempt in failed)
    if reaches == {Reach.REFUSED}:
        return (
            f"{where} refused the connection: nothing listens on port {url.port} there. Check the port (ESXi "
            "listens on 443) and whether the service runs"
        )
    if reaches == {Reach.TIMED_OUT}:
        return (
            f"{where} port {url.port} timed out: nobody answered within {timeout:g} s. The host is down "
            "or overloaded, or a firewall drops the packets between here and there: ask for this port to "
            "be opened"
        )
    if reaches == {Reach.UNREACHABLE}:
        return (
            f"{where} is unreachable from here ({failed[0].detail}): there is no route. Check the network, "
            "and whether this machine has IPv6 at all if the address is one"
        )
    each = "; ".join(map(str, failed))
    return f"no address of {url.host} took a connection on port {url.port} ({each}). Check port and firewall"
