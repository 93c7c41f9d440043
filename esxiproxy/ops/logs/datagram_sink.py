"""Sinks for the logs of the machine: syslog and systemd's journal."""

from __future__ import annotations

import os
import socket
from datetime import datetime

from esxiproxy.core.session.record import Record
from esxiproxy.ops.logs.access_line import MONTHS
from esxiproxy.ops.logs.sink import Losses, Sink, SinkReactor

SYSLOG = "/dev/log"
JOURNAL = "/run/systemd/journal/socket"
IDENTIFIER = "esxiproxy"
_INFO = 6
_DAEMON = 3


class DatagramSink(Sink):
    """A sink that sends a datagram for each line to a unix socket.

    The path is looked up for each datagram, since the receiver may restart.
    """

    def __init__(self, path: str, clock: SinkReactor, losses: Losses | None = None) -> None:
        super().__init__(clock, losses)
        self._path = path
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def write(self, octets: bytes) -> int:
        if self._socket is None:
            raise OSError("not open")
        return self._socket.sendto(octets, self._path)


class SyslogSink(DatagramSink):
    """A sink that sends to ``/dev/log`` in the format of the C library's ``syslog()``.

    ``tag`` replaces the default, ``esxiproxy[PID]``.
    """

    def __init__(
        self, clock: SinkReactor, path: str = SYSLOG, losses: Losses | None = None, tag: str = ""
    ) -> None:
        super().__init__(path, clock, losses)
        self._tag = tag

    def encode(self, line: str, record: Record, seconds: float) -> bytes:
        return self.datagram(_DAEMON * 8 + _INFO, line, seconds)

    def datagram(self, priority: int, text: str, seconds: float) -> bytes:
        """Return a datagram; ``priority`` is facility and severity, ``seconds`` the time of day."""
        when = datetime.fromtimestamp(seconds)  # syslog has local time
        stamp = f"{MONTHS[when.month - 1]} {when.day:2} {when:%H:%M:%S}"
        tag = self._tag or f"{IDENTIFIER}[{os.getpid()}]"
        return f"<{priority}>{stamp} {tag}: {text}".encode("utf-8", "backslashreplace")


class JournalSink(DatagramSink):
    """A sink for systemd's journal in its native format.

    ``journalctl ESXIPROXY_SESSION=...`` finds the line of a session.
    """

    def __init__(self, clock: SinkReactor, path: str = JOURNAL) -> None:
        super().__init__(path, clock)

    def encode(self, line: str, record: Record, seconds: float) -> bytes:
        fields = {
            "MESSAGE": line,
            "PRIORITY": str(_INFO),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "ESXIPROXY_SESSION": record.session,
            "ESXIPROXY_LISTENER": record.listener,
            "ESXIPROXY_UPSTREAM": record.upstream,
            "ESXIPROXY_STATUS": str(record.status),
            "ESXIPROXY_ERROR": record.error,
            "ESXIPROXY_TIMEOUT": record.timeout,
        }
        return b"".join(_field(name, value) for name, value in fields.items() if value)


def _field(name: str, value: str) -> bytes:
    """Return a field in the journal's format, which puts the length before a value with a newline."""
    octets = value.encode("utf-8", "backslashreplace")
    if b"\n" in octets:
        return b"%b\n%b%b\n" % (name.encode(), len(octets).to_bytes(8, "little"), octets)
    return b"%b=%b\n" % (name.encode(), octets)
