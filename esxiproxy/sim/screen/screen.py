"""The picture of the simulated virtual machine: a clock, a moving bar, the typed text and a pointer mark.

Each pixel is one byte, an index into PALETTE. `tick` draws the next step. Listeners are called with every
rectangle that has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from esxiproxy.sim.screen import font
from esxiproxy.sim.screen.region import Rect

Colour = tuple[int, int, int]

BACKGROUND, PANEL, TITLE, CLOCK, BAR, TEXT, MARK = range(7)
PALETTE: Final[tuple[Colour, ...]] = (
    (16, 32, 56),
    (8, 16, 28),
    (220, 228, 240),
    (120, 220, 160),
    (240, 160, 40),
    (240, 240, 240),
    (255, 64, 64),
)

TITLE_SCALE: Final = 2
CLOCK_TOP: Final = 40
CLOCK_SCALE: Final = 8
BAR_TOP: Final = 120
BAR_HEIGHT: Final = 16
BAR_WIDTH: Final = 48
BAR_STEP: Final = 8
TEXT_TOP: Final = 152
TEXT_SCALE: Final = 2
MARGIN: Final = 16
MARK_ARM: Final = 6

KEY_BACKSPACE: Final = 0xFF08
KEY_RETURN: Final = 0xFF0D
KEY_KEYPAD_ENTER: Final = 0xFF8D


class Screen:
    """A framebuffer and the picture's state."""

    def __init__(self, width: int = 640, height: int = 400, title: str = "simulated VM") -> None:
        self.listeners: set[Callable[[Rect], None]] = set()
        self.lines: list[str] = [""]
        self._mark: tuple[int, int] | None = None
        self._clock = ""
        self._title = title
        self._ticks = 0
        self._cell = (font.WIDTH + 1) * TEXT_SCALE, (font.HEIGHT + 2) * TEXT_SCALE
        self._draw(width, height)

    @property
    def bounds(self) -> Rect:
        """The whole screen."""
        return Rect(0, 0, self.width, self.height)

    def read(self, rect: Rect) -> bytes:
        """Return the palette indexes of a rectangle, row by row, with the pointer mark."""
        rows = bytearray()
        for y in range(rect.y, rect.bottom):
            start = y * self.width + rect.x
            rows += self._pixels[start : start + rect.width]
        # The mark is not part of the framebuffer, so that the pixels under it need no copy.
        for x, y in self._mark_points():
            if rect.x <= x < rect.right and rect.y <= y < rect.bottom:
                rows[(y - rect.y) * rect.width + x - rect.x] = MARK
        return bytes(rows)

    def resize(self, width: int, height: int) -> None:
        """Draw the picture again in another size. The typed text stays as far as it has room."""
        self._draw(width, height)
        self._changed(self.bounds)

    def tick(self, now: datetime) -> None:
        """Draw the time and move the bar by one step."""
        clock = now.strftime("%H:%M:%S")
        advance = (font.WIDTH + 1) * CLOCK_SCALE
        left = (self.width - advance * len(clock)) // 2
        for place, digit in enumerate(clock):
            if self._clock[place : place + 1] != digit:
                cell = Rect(left + place * advance, CLOCK_TOP, advance, font.HEIGHT * CLOCK_SCALE)
                self._fill(cell, BACKGROUND)
                self._write(digit, cell.x, cell.y, CLOCK_SCALE, CLOCK)
                self._changed(cell)
        self._clock = clock
        old = self._bar
        self._ticks += 1
        self._fill(old, PANEL)
        self._fill(self._bar, BAR)
        self._changed(old.union(self._bar))

    def key(self, keysym: int) -> None:
        """Handle a pressed key: printable ASCII, BackSpace or Return."""
        if keysym in (KEY_RETURN, KEY_KEYPAD_ENTER):
            self._new_line()
        elif keysym == KEY_BACKSPACE:
            self._erase_character()
        elif font.FIRST <= keysym <= 126:
            if len(self.lines[-1]) >= self.columns:
                self._new_line()
            self.lines[-1] += chr(keysym)
            self._draw_cell(len(self.lines) - 1, len(self.lines[-1]) - 1)

    def point(self, x: int, y: int) -> None:
        """Move the pointer mark to the position of a pressed button."""
        before = self._mark_rect()
        self._mark = (min(x, self.width - 1), min(y, self.height - 1))
        self._changed(before)
        self._changed(self._mark_rect())

    @property
    def _track(self) -> Rect:
        return Rect(MARGIN, BAR_TOP, self.width - 2 * MARGIN, BAR_HEIGHT)

    @property
    def _bar(self) -> Rect:
        span = max(1, self._track.width - BAR_WIDTH)
        place = self._ticks * BAR_STEP % (2 * span)
        return Rect(MARGIN + min(place, 2 * span - place), BAR_TOP, BAR_WIDTH, BAR_HEIGHT)

    @property
    def _text_panel(self) -> Rect:
        return Rect(MARGIN, TEXT_TOP, self.columns * self._cell[0], self.rows * self._cell[1])

    def _draw(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.columns = max(1, (width - 2 * MARGIN) // self._cell[0])
        self.rows = max(1, (height - TEXT_TOP - MARGIN) // self._cell[1])
        self.lines = [line[: self.columns] for line in self.lines[-self.rows :]]
        self._pixels = bytearray(width * height)
        self._mark = None
        self._clock = ""
        self._fill(self.bounds, BACKGROUND)
        self._write(self._title, MARGIN, 12, TITLE_SCALE, TITLE)
        self._fill(self._track, PANEL)
        self._draw_text()

    def _draw_text(self) -> None:
        self._fill(self._text_panel, PANEL)
        for row, line in enumerate(self.lines):
            self._write(line, MARGIN, TEXT_TOP + row * self._cell[1] + TEXT_SCALE, TEXT_SCALE, TEXT)

    def _new_line(self) -> None:
        self.lines.append("")
        if len(self.lines) > self.rows:
            del self.lines[0]
            self._draw_text()
            self._changed(self._text_panel)

    def _erase_character(self) -> None:
        if self.lines[-1]:
            self.lines[-1] = self.lines[-1][:-1]
            self._draw_cell(len(self.lines) - 1, len(self.lines[-1]))
        elif len(self.lines) > 1:
            del self.lines[-1]

    def _draw_cell(self, row: int, column: int) -> None:
        width, height = self._cell
        cell = Rect(MARGIN + column * width, TEXT_TOP + row * height, width, height)
        self._fill(cell, PANEL)
        self._write(self.lines[row][column : column + 1], cell.x, cell.y + TEXT_SCALE, TEXT_SCALE, TEXT)
        self._changed(cell)

    def _write(self, text: str, x: int, y: int, scale: int, colour: int) -> None:
        for place, character in enumerate(text):
            left = x + place * (font.WIDTH + 1) * scale
            for row, dots in enumerate(font.glyph(character)):
                for column, dot in enumerate(dots):
                    if dot == "#":
                        self._fill(Rect(left + column * scale, y + row * scale, scale, scale), colour)

    def _fill(self, rect: Rect, colour: int) -> None:
        rect = rect.intersection(self.bounds)
        if rect.empty:
            return
        row = bytes((colour,)) * rect.width
        for y in range(rect.y, rect.bottom):
            start = y * self.width + rect.x
            self._pixels[start : start + rect.width] = row

    def _mark_rect(self) -> Rect:
        if self._mark is None:
            return Rect(0, 0, 0, 0)
        x, y = self._mark
        return Rect(x - MARK_ARM, y - MARK_ARM, 2 * MARK_ARM + 1, 2 * MARK_ARM + 1)

    def _mark_points(self) -> set[tuple[int, int]]:
        if self._mark is None:
            return set()
        x, y = self._mark
        arm = range(-MARK_ARM, MARK_ARM + 1)
        return {(x + step, y) for step in arm} | {(x, y + step) for step in arm}

    def _changed(self, rect: Rect) -> None:
        rect = rect.intersection(self.bounds)
        if not rect.empty:
            for listener in tuple(self.listeners):
                listener(rect)
