"""The open WebSocket: the host's first frame, its answer to a Ping, and the Close."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.frames import (
    CLOSE,
    PING,
    PONG,
    Frame,
    FrameError,
    FrameReader,
    client_frame,
    close_frame,
)
from esxiproxy.doctor.wire import Wire

NORMAL = 1000

_RFB = re.compile(rb"RFB (\d{3}\.\d{3})\n")
_RFB_LENGTH = 12
_PROBE = b"doctor"


class ConsoleFault(Enum):
    """Reasons why there is no first frame."""

    SILENT = auto()
    ENDED = auto()
    RESET = auto()
    CLOSED = auto()
    """The host sent a Close instead."""
    VIOLATION = auto()


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The first data frame, or the fault; ``rfb`` is the RFB version in it (RFC 6143 7.1.1)."""

    fault: ConsoleFault | None
    frame: Frame | None = None
    rfb: str | None = None
    detail: str = ""


class Ended(Exception):
    """Raised when the host has ended the connection."""


class ConsoleConnection:
    """An open WebSocket; ``early`` are the bytes that followed the 101 in the same read."""

    def __init__(self, wire: Wire, early: bytes, subprotocol: str | None) -> None:
        self._wire = wire
        self._reader = FrameReader()
        self._waiting: Iterator[Frame] = self._reader.feed(early)
        self._subprotocol = subprotocol
        self.closed: tuple[int, str] | None = None
        """The code and reason of the host's Close, once it is received."""
        self.ended = False
        """Whether the connection has ended or failed."""

    def first_frame(self, deadline: Deadline) -> FirstFrame:
        """Return the first data frame, after as many more as an RFB version needs."""
        first: Frame | None = None
        stream = b""
        try:
            while first is None or (len(stream) < _RFB_LENGTH and b"RFB "[: len(stream)] == stream[:4]):
                frame = self._console_frame(deadline)
                if frame is None:
                    break
                first = first or frame
                stream += _carried(self._subprotocol, frame.start)
        except TimeoutError:
            fault, detail = ConsoleFault.SILENT, ""
        except FrameError as error:
            fault, detail = ConsoleFault.VIOLATION, str(error)
        except Ended:
            fault, detail = ConsoleFault.ENDED, ""
        except OSError as error:
            fault, detail = ConsoleFault.RESET, error.strerror or str(error)
        else:
            fault, detail = ConsoleFault.CLOSED, ""
        if first is None:
            return FirstFrame(fault, detail=detail)
        match = _RFB.match(stream)
        return FirstFrame(None, first, match and match.group(1).decode())

    def ping(self, deadline: Deadline) -> bool:
        """Send a Ping and return whether it is answered before the deadline."""
        try:
            self._wire.write(client_frame(PING, _PROBE), deadline)
            while (frame := self._frame(deadline)).opcode != CLOSE:
                if frame.opcode == PONG:
                    return True
        except (FrameError, Ended, OSError):
            pass
        return False

    def close(self, deadline: Deadline) -> bool:
        """Send a Close and return whether the host sends one, or has sent one before."""
        with contextlib.suppress(FrameError, Ended, OSError):
            self._wire.write(close_frame(NORMAL), deadline)
            while self.closed is None and not self.ended:
                self._frame(deadline)
        return self.closed is not None

    def _console_frame(self, deadline: Deadline) -> Frame | None:
        """Return the next data frame, or None for a Close.  Pings are answered."""
        while (frame := self._frame(deadline)).control:
            if frame.opcode == CLOSE:
                return None
            if frame.opcode == PING:
                self._wire.write(client_frame(PONG, frame.start), deadline)
        return frame

    def _frame(self, deadline: Deadline) -> Frame:
        """Return the next frame.  Raises TimeoutError, FrameError, Ended or another OSError."""
        if self.ended:
            raise Ended
        try:
            while (frame := next(self._waiting, None)) is None:
                octets = self._wire.read(deadline)
                if not octets:
                    raise Ended
                self._waiting = self._reader.feed(octets)
        except TimeoutError:
            raise
        except (FrameError, Ended, OSError):
            self.ended = True
            raise
        if frame.opcode == CLOSE:
            self.closed = frame.close
        return frame


def _carried(subprotocol: str | None, payload: bytes) -> bytes:
    """Return the console's bytes in a payload.  vCloud's text encodings are decoded as far as possible."""
    if subprotocol == "uint8utf8":
        return payload.decode("utf-8", "ignore").encode("latin-1", "ignore")
    if subprotocol == "base64":
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(payload[: len(payload) // 4 * 4])
    return payload
