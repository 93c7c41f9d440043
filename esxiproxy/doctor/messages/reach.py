"""Messages about the host's addresses and the TCP connections to them."""

from __future__ import annotations

from typing import Protocol

from esxiproxy.doctor.addresses import DnsFault, Resolution
from esxiproxy.doctor.dial import DialAttempt, DialOutcome, DialResult

_PROXY_SEES = "the name has to resolve on the machine on which the proxy runs"


class HostPlace(Protocol):
    """The host and the port of the connection, and whether the host is an IP address."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def literal(self) -> bool: ...


def dns(url: HostPlace, resolution: Resolution, timeout: float) -> str:
    """Describe the lookup of the host's name."""
    match resolution.fault:
        case None if url.literal:
            return f"{url.host} is an IP address: no name has to be resolved"
        case None:
            count = len(resolution.endpoints)
            return f"{url.host} has {count} address{'es' if count > 1 else ''}"
        case DnsFault.UNKNOWN:
            return (
                f"the name {url.host} does not resolve: no name server knows an address for it. Check its "
                "spelling, use the full name with its domain, or use the host's IP address; "
                f"{_PROXY_SEES}"
            )
        case DnsFault.NO_ANSWER:
            return (
                f"the name {url.host} does not resolve: no name server gave an answer. Check "
                "/etc/resolv.conf and the network to the name server, or use the host's IP address; "
                f"{_PROXY_SEES}"
            )
        case DnsFault.TIMED_OUT:
            return (
                f"the name {url.host} did not resolve within {timeout:g} s: the name servers do not answer. "
                "Check /etc/resolv.conf and the network to them, or use the host's IP address"
            )
        case _:
            return f"the name {url.host} does not resolve: {resolution.detail}. Check the system's resolver"


def tcp(url: HostPlace, dialled: DialResult, timeout: float) -> str:
    """Describe the TCP connections to the addresses."""
    failed = [attempt for attempt in dialled.attempts if attempt.outcome is not DialOutcome.ANSWERED]
    if dialled.chosen is None:
        return _unreached(url, failed, timeout)
    sentence = f"{dialled.chosen.endpoint} port {url.port} answered"
    if failed:
        others = ", ".join(map(str, failed))
        return f"{sentence}, but not all addresses of {url.host} ({others}): remove these from its DNS entry"
    return sentence


def _unreached(url: HostPlace, failed: list[DialAttempt], timeout: float) -> str:
    reaches = {attempt.outcome for attempt in failed}
    where = ", ".join(str(attempt.endpoint) for attempt in failed)
    if reaches == {DialOutcome.REFUSED}:
        return (
            f"{where} refused the connection: no service listens on port {url.port} there. Check the port "
            "(ESXi listens on 443) and whether the service is running"
        )
    if reaches == {DialOutcome.TIMED_OUT}:
        return (
            f"{where} port {url.port} timed out: no answer within {timeout:g} s. The host is down or "
            "overloaded, or a firewall drops the packets: check the host, or have this port opened in the "
            "firewall"
        )
    if reaches == {DialOutcome.UNREACHABLE}:
        return (
            f"{where} is unreachable from this machine ({failed[0].detail}): there is no route. Check the "
            "network, and for an IPv6 address whether this machine has IPv6"
        )
    each = "; ".join(map(str, failed))
    return (
        f"no address of {url.host} accepted a connection on port {url.port} ({each}). Check the port and the "
        "firewall"
    )
