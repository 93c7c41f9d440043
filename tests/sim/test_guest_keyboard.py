"""The keyboard of the simulated guest."""

from __future__ import annotations

from esxiproxy.sim.guest_keyboard import GuestKeyboard
from esxiproxy.sim.screen.screen import KEY_BACKSPACE, KEY_RETURN

LEFT_SHIFT, RIGHT_SHIFT, CAPS_LOCK = 0x2A, 0x36, 0x3A


def typed(*keys: int) -> str:
    """Press keys, and release those that are written as negative numbers; return what they type."""
    keyboard = GuestKeyboard()
    found = [keyboard.event(abs(key), key > 0) for key in keys]
    return "".join(chr(keysym) for keysym in found if keysym is not None)


def test_characters_with_and_without_shift_and_caps_lock() -> None:
    assert typed(0x1E, -0x1E, 0x02, 0x39, 0x2B) == "a1 \\"
    assert typed(LEFT_SHIFT, 0x1E, 0x02, -LEFT_SHIFT, 0x1E) == "A!a"
    assert typed(LEFT_SHIFT, RIGHT_SHIFT, -LEFT_SHIFT, 0x35) == "?"
    assert typed(CAPS_LOCK, -CAPS_LOCK, 0x1E, 0x02, LEFT_SHIFT, 0x1E) == "A1a"


def test_keys_that_type_no_character() -> None:
    keyboard = GuestKeyboard()
    assert [keyboard.event(code, True) for code in (0x0E, 0x1C, 0x11C)] == [
        KEY_BACKSPACE,
        KEY_RETURN,
        KEY_RETURN,
    ]
    assert typed(0x3B, 0x1D, 0x14B, 0xFFFF) == ""
