"""Notifies systemd of the state of the service (sd_notify(3)), without libsystemd."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_RETRY_INTERVAL = 0.1
"""Seconds between two attempts to send while systemd's queue is full."""
_STATUS_INTERVAL = 5.0
"""Seconds between two checks of the status, which is sent when it has changed."""


class Notify:
    """The datagram socket named by NOTIFY_SOCKET; without that variable, nothing is sent."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog
        """Seconds within which systemd expects a watchdog message; None without a watchdog."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notify:
        """Read NOTIFY_SOCKET and WATCHDOG_USEC, the latter unless WATCHDOG_PID is another process."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):  # a vsock address is not supported
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
        """Send a datagram with these fields; return False when it did not fit into systemd's queue."""
        if not self._address:
            return True
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError:  # systemd is being upgraded: the proxy continues without it
            pass
        return True


class SystemdService(Service):
    """A service that sends READY when the event loop runs, and then watchdog messages and the status.

    It has to start after the listeners, so that READY means that they are bound.  ``status`` returns the line
    that ``systemctl status`` shows.  ``monotonic`` returns the monotonic time in nanoseconds.
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
        """The messages that did not fit into systemd's queue, oldest first."""

    def startService(self) -> None:
        super().startService()
        self._ending = False
        if not self._notify:
            return
        self._clock.callLater(0, self._running)
        self._repeat(self._show_status, _STATUS_INTERVAL)
        if self._notify.watchdog is not None:
            self._repeat(self._ping_watchdog, self._notify.watchdog / 2)

    def stopService(self) -> None:
        super().stopService()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()

    def _running(self) -> None:
        """Send READY, from the running event loop."""
        if self.running:
            self.ready()

    def ready(self) -> None:
        """Send READY, after the start and after each reload, whether that succeeded or not."""
        if self._ending:
            return
        self._shown = self._status()
        self._notify_state(READY=1, STATUS=_line(self._shown))

    def reloading(self) -> None:
        """Send RELOADING at the start of a reload; ``ready`` has to follow."""
        if self._ending:
            return
        self._notify_state(RELOADING=1, MONOTONIC_USEC=self._monotonic() // 1000)

    def stopping(self, seconds: float) -> None:
        """Send STOPPING, and ask systemd to wait for ``seconds`` of drain before it kills the process."""
        self._ending = True
        self._notify_state(
            STOPPING=1,
            STATUS=_line(f"draining, for {seconds:g} s at most"),
            EXTEND_TIMEOUT_USEC=int((seconds + 5) * 1e6),
        )
        self._shown = self._status()

    def _show_status(self) -> None:
        status = self._status()
        if self._unsent:  # an unsent message has an older status, which would arrive later
            return
        if status != self._shown and self._notify.send(STATUS=_line(status)):
            self._shown = status

    def _ping_watchdog(self) -> None:
        self._notify.send(WATCHDOG=1)

    def _notify_state(self, **fields: str | int) -> None:
        """Send a message after all unsent ones, since the last message counts for systemd."""
        self._unsent.append(fields)
        if len(self._unsent) == 1:
            self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            if not self._notify.send(**self._unsent[0]):
                self._clock.callLater(_RETRY_INTERVAL, self._send_unsent)
                return
            self._unsent.popleft()

    def _repeat(self, call: Callable[[], None], seconds: float) -> None:
        loop = LoopingCall(call)
        loop.clock = self._clock
        loop.start(seconds, now=False)
        self._loops.append(loop)


def _line(text: str) -> str:
    return " ".join(text.split())
