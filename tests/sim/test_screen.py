"""The picture."""

from datetime import datetime

from esxiproxy.sim.screen import font
from esxiproxy.sim.screen.region import Rect
from esxiproxy.sim.screen.screen import KEY_BACKSPACE, KEY_RETURN, MARK, PALETTE, TEXT, Screen

NOON = datetime(2026, 1, 2, 12, 0, 0)


def changes(screen: Screen) -> list[Rect]:
    seen: list[Rect] = []
    screen.listeners.add(seen.append)
    return seen


def write(screen: Screen, text: str) -> None:
    for character in text:
        screen.key(ord(character))


def test_the_font_has_all_of_ascii() -> None:
    """Ninety-five glyphs of the right size, all of them different, only the space empty."""
    assert sorted(font.GLYPHS) == [chr(code) for code in range(32, 127)]
    assert all(
        len(dots) == font.HEIGHT and {len(row) for row in dots} == {font.WIDTH}
        for dots in font.GLYPHS.values()
    )
    assert len(set(font.GLYPHS.values())) == 95
    assert [name for name, dots in font.GLYPHS.items() if "#" not in "".join(dots)] == [" "]
    assert font.glyph("é") == font.glyph("?")


def test_every_second_moves_the_clock_and_every_tick_the_bar() -> None:
    """Only changed parts are reported, and they are on the screen."""
    screen = Screen()
    screen.tick(NOON)
    seen = changes(screen)
    screen.tick(NOON)
    assert len(seen) == 1 and seen[0].height == 16
    screen.tick(NOON.replace(second=1))
    assert len(seen) == 3
    assert all(rect.intersection(screen.bounds) == rect for rect in seen)
    assert sum(rect.width * rect.height for rect in seen) < screen.width * screen.height / 20


def test_the_bar_moves_and_stays_in_its_track() -> None:
    """A thousand ticks never leave the screen, and never repeat the last picture."""
    screen = Screen(200, 200)
    band = Rect(0, 120, 200, 16)
    before = screen.read(band)
    for _ in range(1000):
        screen.tick(NOON)
        now = screen.read(band)
        assert now != before
        before = now


def test_typed_text_is_drawn_and_rubbed_out() -> None:
    """A key changes one cell; BackSpace gives the former picture back."""
    screen = Screen()
    before = screen.read(screen.bounds)
    seen = changes(screen)
    write(screen, "A")
    assert len(seen) == 1
    assert TEXT in screen.read(seen[0])
    screen.key(KEY_BACKSPACE)
    assert screen.read(screen.bounds) == before
    screen.key(KEY_BACKSPACE)
    screen.key(0xFFE1)
    assert screen.lines == [""]


def test_text_wraps_and_scrolls() -> None:
    """A full line continues in the next one, and a full panel scrolls."""
    screen = Screen()
    write(screen, "x" * (screen.columns + 1))
    assert [len(line) for line in screen.lines] == [screen.columns, 1]
    for number in range(screen.rows):
        screen.key(KEY_RETURN)
        write(screen, str(number))
    assert len(screen.lines) == screen.rows
    assert screen.lines[-1] == str(screen.rows - 1)
    screen.key(KEY_RETURN)
    screen.key(KEY_BACKSPACE)
    assert screen.lines[-1] == str(screen.rows - 1)


def test_the_mark_moves_and_leaves_no_trace() -> None:
    """A pointer mark is red at its place and gone from the place before."""
    screen = Screen()
    screen.point(100, 300)
    assert screen.read(Rect(100, 300, 1, 1)) == bytes((MARK,))
    screen.point(5000, 5000)
    assert screen.read(Rect(100, 300, 1, 1)) != bytes((MARK,))
    assert screen.read(Rect(639, 399, 1, 1)) == bytes((MARK,))
    assert PALETTE[MARK] == (255, 64, 64)


def test_a_small_screen_is_clipped() -> None:
    """Parts outside of the screen are not drawn."""
    screen = Screen(64, 64)
    seen = changes(screen)
    screen.tick(NOON)
    write(screen, "hello")
    assert all(rect.intersection(screen.bounds) == rect for rect in seen)
    assert len(screen.read(screen.bounds)) == 64 * 64


def test_a_new_size_keeps_the_text_that_has_room() -> None:
    """The whole picture is drawn again and reported; the next step draws the clock."""
    screen = Screen()
    screen.tick(NOON)
    write(screen, "one")
    screen.key(KEY_RETURN)
    write(screen, "two" + "x" * 30)
    seen = changes(screen)
    screen.resize(320, 200)
    assert seen == [Rect(0, 0, 320, 200)] and len(screen.read(screen.bounds)) == 320 * 200
    assert screen.rows == 1 and screen.lines == [("two" + "x" * 30)[: screen.columns]]
    before = screen.read(screen.bounds)
    screen.tick(NOON)
    assert screen.read(screen.bounds) != before
