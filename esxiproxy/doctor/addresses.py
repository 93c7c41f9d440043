"""The addresses behind a host's name: the system's resolver is asked, with a deadline."""

from __future__ import annotations

import queue
import socket
import threading
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from esxiproxy.doctor.deadline import Deadline


class DnsFault(Enum):
    """Why a name has no address."""

    UNKNOWN = auto()
    """Whoever answers for the name says that there is none."""
    NO_ANSWER = auto()
    """No name server answers."""
    TIMED_OUT = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of the host, as the socket module takes it."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    def __str__(self) -> str:
        return str(self.address[0])


@dataclass(frozen=True, slots=True)
class Resolution:
    """The endpoints, in the order in which the system prefers them; or what went wrong."""

    endpoints: tuple[Endpoint, ...] = ()
    fault: DnsFault | None = None
    detail: str = ""


def resolve(host: str, port: int, deadline: Deadline) -> Resolution:
    """All addresses of a host.  What comes after the deadline is left to a thread that nobody waits for."""
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
        # EAI_NODATA: the name is there, but has no address; not every system has it.
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)):
            return Resolution(fault=DnsFault.UNKNOWN)
        if error.errno == socket.EAI_AGAIN:
            return Resolution(fault=DnsFault.NO_ANSWER)
        return Resolution(fault=DnsFault.FAILED, detail=error.strerror or str(error))
    return Resolution(fault=DnsFault.FAILED, detail=str(error))
