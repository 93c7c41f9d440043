"""RFB without I/O."""

import struct

import pytest

from esxiproxy.sim.rfb import (
    DESKTOP_SIZE,
    KeyEvent,
    PointerEvent,
    RfbError,
    RfbPhase,
    RfbServer,
    ScanCodeEvent,
)
from esxiproxy.sim.screen.pixels import PixelFormat, PixelFormatRefused, PixelTranslation
from esxiproxy.sim.screen.region import Rect
from esxiproxy.sim.screen.screen import BACKGROUND, PALETTE, Screen

GREETING = b"RFB 003.008\n\x01\x01"


def request(rect: Rect, incremental: bool = False) -> bytes:
    return struct.pack("!BBHHHH", 3, incremental, *rect)


def opened(width: int = 64, height: int = 64) -> tuple[Screen, RfbServer]:
    screen = Screen(width, height)
    rfb = RfbServer(screen, "VM")
    rfb.receive(GREETING)
    rfb.bytes_to_send()
    return screen, rfb


def test_the_handshake_byte_by_byte() -> None:
    """Version, security None, its result, ServerInit with size, format and name; in any chunks."""
    rfb = RfbServer(Screen(64, 48), "VM")
    assert rfb.bytes_to_send() == b"RFB 003.008\n"
    for octet in GREETING:
        assert rfb.receive(bytes((octet,))) == []
    expected = b"\x01\x01" + bytes(4) + struct.pack("!HH", 64, 48)
    expected += bytes.fromhex("20180001 00ff00ff00ff 100800 000000") + struct.pack("!I", 2) + b"VM"
    assert rfb.bytes_to_send() == expected
    assert rfb.phase is RfbPhase.NORMAL


@pytest.mark.parametrize(
    "broken",
    [
        b"RFB 003.003\n",
        b"GET / HTTP/1",
        b"RFB 003.abc\n",
        b"RFB 003.008\n\x02",
        GREETING + b"\xfa",
        GREETING + b"\x00\x00\x00\x00" + PixelFormat(bits=24).encode(),
        GREETING + b"\x00\x00\x00\x00" + PixelFormat(red_shift=32).encode(),
        GREETING + struct.pack("!BxxxI", 6, 1 << 30),
        GREETING + struct.pack("!BBHHBx", 127, 0, 7, 30, 1),
        GREETING + struct.pack("!BBH", 127, 9, 3),
    ],
)
def test_data_that_is_not_rfb_is_refused(broken: bytes) -> None:
    """Older versions, unknown security types and messages, odd formats, endless cut texts."""
    with pytest.raises(RfbError):
        RfbServer(Screen(64, 64), "VM").receive(broken)


def test_a_colour_map_is_refused() -> None:
    """The server supports true colour only."""
    with pytest.raises(PixelFormatRefused):
        PixelFormat.decode(bytes((8, 8, 0, 0)) + bytes(12))


def test_events_are_read_from_any_chunks() -> None:
    """Keys and pointers come out; encodings are kept, cut texts are skipped."""
    _, rfb = opened()
    stream = struct.pack("!BxHii", 2, 2, 0, -239) + struct.pack("!BBxxI", 4, 1, 0xFF0D)
    stream += struct.pack("!BxxxI", 6, 5) + b"\x04\x05\x06\x07\x08" + struct.pack("!BBHH", 5, 1, 10, 20)
    whole = [KeyEvent(0xFF0D, True), PointerEvent(10, 20, 1)]
    assert rfb.receive(stream) == whole
    assert rfb.encodings == (0, -239)
    assert [event for octet in stream for event in rfb.receive(bytes((octet,)))] == whole


def test_scan_codes_of_vmware_are_events_and_its_other_messages_are_skipped() -> None:
    _, rfb = opened()
    stream = struct.pack("!BBHI", 127, 3, 8, 1) + struct.pack("!BBHHBx", 127, 0, 8, 0x11C, 1)
    stream += struct.pack("!BBHHH", 127, 5, 8, 800, 600) + struct.pack("!BBHHBx", 127, 0, 8, 0x11C, 0)
    whole = [ScanCodeEvent(0x11C, True), ScanCodeEvent(0x11C, False)]
    assert rfb.receive(stream) == whole
    assert [event for octet in stream for event in rfb.receive(bytes((octet,)))] == whole


def test_an_update_comes_only_when_asked_for() -> None:
    """The first request brings everything, an incremental one waits for a change, one answer each."""
    screen, rfb = opened()
    assert rfb.update() == b""
    rfb.receive(request(screen.bounds, incremental=True))
    update = rfb.update()
    assert update[:16] == struct.pack("!BxHHHHHi", 0, 1, 0, 0, 64, 64, 0)
    assert len(update) == 16 + 64 * 64 * 4
    rfb.receive(request(screen.bounds, incremental=True))
    assert not rfb.update_due
    rfb.damage(Rect(1, 2, 3, 4))
    assert rfb.update()[:16] == struct.pack("!BxHHHHHi", 0, 1, 1, 2, 3, 4, 0)
    rfb.damage(Rect(0, 0, 1, 1))
    assert rfb.update() == b""
    rfb.receive(request(Rect(10, 10, 2, 2)))
    assert rfb.update()[:16] == struct.pack("!BxHHHHHi", 0, 1, 10, 10, 2, 2, 0)


def test_a_thousand_requests_are_one() -> None:
    """Requests do not queue: what waits is one region."""
    screen, rfb = opened()
    rfb.receive(request(screen.bounds) * 1000)
    assert rfb.update()
    assert rfb.update() == b""
    rfb.receive(request(Rect(64, 64, 9, 9)))
    assert rfb.update() == b""


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("big_endian", [False, True])
def test_pixels_come_in_the_format_that_was_set(bits: int, big_endian: bool) -> None:
    """Eight, sixteen and thirty-two bits, either byte order."""
    maxima, shifts = {
        8: ((7, 7, 3), (5, 2, 0)),
        16: ((31, 63, 31), (11, 5, 0)),
        32: ((255, 255, 255), (0, 8, 16)),
    }[bits]
    wanted = PixelFormat(bits, min(bits, 24), big_endian, *maxima, *shifts)
    assert PixelFormat.decode(wanted.encode()) == wanted
    screen, rfb = opened()
    rfb.receive(b"\x00\x00\x00\x00" + wanted.encode() + request(Rect(0, 0, 5, 5)))
    pixels = rfb.update()[16:]
    value = 0
    for part, maximum, shift in zip(PALETTE[BACKGROUND], maxima, shifts, strict=True):
        value |= round(part * maximum / 255) << shift
    if bits == 32:
        value |= 0xFF000000  # what means nothing is opaque, for viewers that think it means something
    assert pixels == value.to_bytes(bits // 8, "big" if big_endian else "little") * 25
    assert screen.read(Rect(0, 0, 1, 1)) == bytes((BACKGROUND,))


def test_a_translation_keeps_the_order() -> None:
    """Each index becomes its own pixel."""
    format_ = PixelFormat()
    pixels = [format_.pixel(colour) for colour in PALETTE]
    assert PixelTranslation(format_, PALETTE).apply(bytes(range(7))) == b"".join(pixels)


def test_a_viewer_that_can_resize_is_told_the_new_size() -> None:
    """The pseudo-encoding -223 comes alone and first, and the next update has the whole new picture."""
    screen, rfb = opened()
    rfb.receive(struct.pack("!BxHii", 2, 2, 0, DESKTOP_SIZE) + request(screen.bounds))
    rfb.update()
    screen.listeners.add(rfb.damage)
    rfb.receive(request(screen.bounds, incremental=True))
    assert not rfb.update_due
    screen.resize(128, 80)
    assert rfb.update() == struct.pack("!BxHHHHHi", 0, 1, 0, 0, 128, 80, DESKTOP_SIZE)
    rfb.receive(request(screen.bounds, incremental=True))
    assert rfb.update()[:16] == struct.pack("!BxHHHHHi", 0, 1, 0, 0, 128, 80, 0)


@pytest.mark.parametrize(("size", "shown"), [((128, 80), (64, 64)), ((32, 16), (32, 16))])
def test_a_viewer_that_cannot_resize_gets_nothing_outside_its_size(size, shown) -> None:
    screen, rfb = opened()
    screen.listeners.add(rfb.damage)
    screen.resize(*size)
    rfb.receive(request(Rect(0, 0, 64, 64)))
    assert rfb.update()[:16] == struct.pack("!BxHHHHHi", 0, 1, 0, 0, *shown, 0)
