"""What systemd is told of the service (sd_notify(3)), without its library."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_RETRY = 0.1
_STATUS = 5.0
"""Seconds between two looks at the status, which is sent when it is another one."""


class Notify:
    """The datagram socket in NOTIFY_SOCKET; without one, everything here does nothing."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog
        """Seconds within which systemd wants to hear from us; None when it does not."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notify:
        """What systemd has set for this process; WATCHDOG_PID may mean another one."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):  # vsock, for a whole virtual machine
            return cls()
        try:
            watchdog: float | None = int(environ["WATCHDOG_USEC"]) / 1e6
        except (KeyError, ValueError):
            watchdog = None
        if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            watchdog = None
        return cls(address, watchdog or None)

    def __bool__(self) -> bool:
        return bool(self._address)

    def send(self, **fields: str | int) -> bool:
        """One datagram with these fields; False when it has to be sent again, since the queue is full."""
        if not self._address:
            return True
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError:  # systemd is being upgraded, or gone: the consoles are not
            pass
        return True


class SystemdService(Service):
    """Tells systemd how it goes: READY when the loop runs, and the watchdog for as long as it does.

    It starts after the listeners, so that READY means that they are bound.  ``status`` gives the line that
    ``systemctl status`` shows.
    """

    def __init__(
        self,
        clock: IReactorTime,
        notify: Notify | None = None,
        status: Callable[[], str] = lambda: "",
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.setName("systemd")
        self._clock = clock
        self._notify = notify if notify is not None else Notify.from_environment()
        self._status = status
        self._monotonic = monotonic
        self._shown = ""
        self._ending = False
        self._loops: list[LoopingCall] = []
        self._unsent: deque[Mapping[str, str | int]] = deque()
        """Messages that did not fit into systemd's queue, oldest first."""

    def startService(self) -> None:
        super().startService()
        self._ending = False
        if not self._notify:
            return
        self._clock.callLater(0, self._running)
        self._repeat(self._show_status, _STATUS)
        if self._notify.watchdog is not None:
            self._repeat(self._ping_watchdog, self._notify.watchdog / 2)

    def stopService(self) -> None:
        super().stopService()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()

    def _running(self) -> None:
        """The loop does what it is asked to."""
        if self.running:
            self.ready()

    def ready(self) -> None:
        """Everything is there: after the start, and after a reload, whether that went well or not."""
        if self._ending:
            return
        self._shown = self._status()
        self._notify_state(READY=1, STATUS=_line(self._shown))

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` follows."""
        if self._ending:
            return
        self._notify_state(RELOADING=1, MONOTONIC_USEC=self._monotonic() // 1000)

    def stopping(self, seconds: float) -> None:
        """The drain begins; it may take so long, and systemd is not to kill us before."""
        self._ending = True
        self._notify_state(
            STOPPING=1,
            STATUS=_line(f"draining, for {seconds:g} s at most"),
            EXTEND_TIMEOUT_USEC=int((seconds + 5) * 1e6),
        )
        self._shown = self._status()

    def _show_status(self) -> None:
        status = self._status()
        if self._unsent:  # one of them has a status, which would arrive after this one
            return
        if status != self._shown and self._notify.send(STATUS=_line(status)):
            self._shown = status

    def _ping_watchdog(self) -> None:
        self._notify.send(WATCHDOG=1)

    def _notify_state(self, **fields: str | int) -> None:
        """Send a message after all that could not be sent yet: systemd believes the last one."""
        self._unsent.append(fields)
        if len(self._unsent) == 1:
            self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            if not self._notify.send(**self._unsent[0]):
                self._clock.callLater(_RETRY, self._send_unsent)
                return
            self._unsent.popleft()

    def _repeat(self, call: Callable[[], None], seconds: float) -> None:
        loop = LoopingCall(call)
        loop.clock = self._clock
        loop.start(seconds, now=False)
        self._loops.append(loop)


def _line(text: str) -> str:
    return " ".join(text.split())
