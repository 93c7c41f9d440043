"""One open console: an RFB server that shows the virtual machine's screen."""

from __future__ import annotations

from collections.abc import Callable

from esxiproxy.sim.guest_keyboard import GuestKeyboard
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.rfb import KeyEvent, RfbServer, ScanCodeEvent
from esxiproxy.sim.screen.region import Rect


class ViewerConsole:
    """A viewer's connection to the machine; `send` is called with the bytes for the viewer.

    At most one update is buffered: a viewer gets one update for each request, and none while paused.
    `close` is called with a close code and a reason to end the connection.  With `begins_with_init` there is
    no version and no security type in front of ServerInit.
    """

    def __init__(
        self,
        machine: VirtualMachine,
        send: Callable[[bytes], None],
        close: Callable[[int, str], None],
        client: str = "",
        user: str = "",
        begins_with_init: bool = False,
    ) -> None:
        self.client = client
        self.user = user
        self._machine = machine
        self._send = send
        self._close = close
        self._rfb = RfbServer(machine.screen, machine.name, begins_with_init)
        self._keyboard = GuestKeyboard()
        self._buttons = 0
        self._paused = False
        self._last_update: float | None = None

    def start(self) -> None:
        """Send the first bytes of RFB and show the screen."""
        self._machine.attach(self)
        self._send(self._rfb.bytes_to_send())

    def stop(self) -> None:
        """Stop sending."""
        self._paused = True
        self._machine.detach(self)

    def receive(self, received: bytes) -> None:
        """Process bytes from the viewer. Raises `RfbError`."""
        screen = self._machine.screen
        for event in self._rfb.receive(received):
            if isinstance(event, KeyEvent):
                if event.down:
                    screen.key(event.keysym)
            elif isinstance(event, ScanCodeEvent):
                if (keysym := self._keyboard.event(event.code, event.down)) is not None:
                    screen.key(keysym)
            else:
                if event.buttons & ~self._buttons:
                    screen.point(event.x, event.y)
                self._buttons = event.buttons
        if answer := self._rfb.bytes_to_send():
            self._send(answer)
        if self._interval_elapsed:
            self.flush()

    def end(self, code: int, reason: str) -> None:
        """Close the viewer's connection."""
        self._close(code, reason)

    def damage(self, rect: Rect) -> None:
        """Mark a rectangle of the picture as changed."""
        self._rfb.damage(rect)

    def flush(self) -> None:
        """Send an update if one is due and the transport is not paused."""
        if not self._paused and (update := self._rfb.update()):
            self._last_update = self._machine.clock.seconds()
            self._send(update)

    def pause(self) -> None:
        """Stop sending updates until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Continue sending updates."""
        self._paused = False
        if self._interval_elapsed:
            self.flush()

    @property
    def _interval_elapsed(self) -> bool:
        # Between two steps of the picture no update is sent; the timer's next step sends it.
        last = self._last_update
        return last is None or self._machine.clock.seconds() - last >= self._machine.interval
