"""The lookup of a host name by the system's resolver, with a deadline."""

from __future__ import annotations

import queue
import socket
import threading
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from esxiproxy.doctor.deadline import Deadline


class DnsFault(Enum):
    """Reasons why a name has no address."""

    UNKNOWN = auto()
    """The name servers answer that the name has no address."""
    NO_ANSWER = auto()
    """No name server answers."""
    TIMED_OUT = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of the host in the form of the socket module."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.address[0])


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of a lookup: the endpoints in the order of the system's preference, or the fault."""

    endpoints: tuple[Endpoint, ...] = ()
    fault: DnsFault | None = None
    detail: str = ""


def resolve(host: str, port: int, deadline: Deadline) -> Resolution:
    """Look up all addresses of a host until the deadline.

    The lookup runs in a daemon thread.  The thread is not joined when the deadline passes.
    """
    box: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            box.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            box.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = box.get(timeout=deadline.remaining())
    except (queue.Empty, TimeoutError):
        return Resolution(fault=DnsFault.TIMED_OUT)
    if isinstance(answer, Exception):
        return _failed(answer)
    # A host may be listed twice in /etc/hosts.
    seen = dict.fromkeys((entry[0], entry[4]) for entry in answer)
    endpoints = tuple(
        Endpoint(family, address) for family, address in seen if family in (socket.AF_INET, socket.AF_INET6)
    )
    return Resolution(endpoints) if endpoints else Resolution(fault=DnsFault.UNKNOWN)


def _failed(error: Exception) -> Resolution:
    if isinstance(error, socket.gaierror):
        # EAI_NODATA: the name exists without an address.  Some systems do not define it.
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            return Resolution(fault=DnsFault.UNKNOWN)
        if error.errno == socket.EAI_AGAIN:
            return Resolution(fault=DnsFault.NO_ANSWER)
        return Resolution(fault=DnsFault.FAILED, detail=error.strerror or str(error))
    return Resolution(fault=DnsFault.FAILED, detail=str(error))
