"""The keyboard of the simulated guest: scan codes of set 1 become characters of the US layout."""

from __future__ import annotations

from typing import Final

from esxiproxy.sim.screen.screen import KEY_BACKSPACE, KEY_RETURN

_SHIFTS: Final = frozenset({0x2A, 0x36})
_CAPS_LOCK: Final = 0x3A
_KEYS: Final = {0x0E: KEY_BACKSPACE, 0x1C: KEY_RETURN, 0x11C: KEY_RETURN}
_ROWS: Final = (
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x39, " ", " "),
)
_PLAIN: Final = {code: lower for first, row, _ in _ROWS for code, lower in enumerate(row, first)}
_SHIFTED: Final = {code: upper for first, _, row in _ROWS for code, upper in enumerate(row, first)}


class GuestKeyboard:
    """The pressed modifiers of one keyboard."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._caps_lock = False

    def event(self, code: int, down: bool) -> int | None:
        """Handle a key that is pressed or released; return the keysym that it types, None for none."""
        if code in _SHIFTS:
            (self._held.add if down else self._held.discard)(code)
        if not down:
            return None
        if code == _CAPS_LOCK:
            self._caps_lock = not self._caps_lock
        if code in _KEYS:
            return _KEYS[code]
        if code not in _PLAIN:
            return None
        is_shifted = bool(self._held) != (self._caps_lock and _PLAIN[code].isalpha())
        return ord((_SHIFTED if is_shifted else _PLAIN)[code])
