"""Tickets, subprotocols, heads, fault plans, certificates, the machine: the small parts by themselves."""

import re
import stat
from datetime import datetime
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from esxiproxy.sim import certificate, subprotocols, tickets
from esxiproxy.sim.__main__ import run
from esxiproxy.sim.console import ViewerConsole
from esxiproxy.sim.faults import FaultPlan, SimFault
from esxiproxy.sim.machine import VirtualMachine
from esxiproxy.sim.options import HostOptions
from esxiproxy.sim.rfb import RfbError
from esxiproxy.sim.screen.screen import Screen
from esxiproxy.sim.tickets import TicketStore
from esxiproxy.sim.web import BadHead, SimRequestHead, SimResponse
from tests.sim.test_rfb import GREETING, request


def test_a_ticket_opens_once() -> None:
    """The second use is refused, and so is a ticket that was never issued."""
    book: TicketStore[str] = TicketStore(Clock().seconds)
    ticket = book.issue("one")
    assert re.fullmatch("[0-9a-f]{32}", ticket) and ticket != book.issue("two")
    assert book.redeem(ticket) == "one"
    assert book.redeem(ticket) is None
    assert book.redeem("") is None
    assert (book.issued, book.used, book.refused) == (2, 1, 2)


def test_a_ticket_expires() -> None:
    """Half an hour is its life."""
    clock = Clock()
    book: TicketStore[str] = TicketStore(clock.seconds)
    early, late = book.issue("early"), book.issue("late")
    clock.advance(1799)
    assert book.redeem(early)
    clock.advance(1)
    assert not book.redeem(late)


def test_the_ticket_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its size the oldest tickets go."""
    monkeypatch.setattr(tickets, "MAX_OUTSTANDING", 3)
    book: TicketStore[int] = TicketStore(Clock().seconds)
    issued = [book.issue(number) for number in range(5)]
    assert [book.redeem(ticket) for ticket in issued] == [None, None, 2, 3, 4]


def test_the_tickets_of_one_machine_can_be_revoked() -> None:
    book: TicketStore[str] = TicketStore(Clock().seconds)
    one, two = book.issue("one"), book.issue("two")
    book.revoke(lambda grant: grant == "one")
    assert (book.redeem(one), book.redeem(two)) == (None, "two")


@pytest.mark.parametrize(
    ("name", "wire", "binary"),
    [
        ("binary", b"\x00\xe9\xff", True),
        (None, b"\x00\xe9\xff", True),
        ("uint8utf8", "\x00éÿ".encode(), False),
        ("base64", b"AOn/", False),
    ],
)
def test_a_subprotocol_carries_every_byte(name: str | None, wire: bytes, binary: bool) -> None:
    """Encoding and decoding are each other's inverse."""
    assert subprotocols.encode(name, b"\x00\xe9\xff") == (wire, binary)
    assert subprotocols.decode(name, wire) == b"\x00\xe9\xff"
    everything = bytes(range(256))
    assert subprotocols.decode(name, subprotocols.encode(name, everything)[0]) == everything


def test_an_invalid_payload_of_a_subprotocol_is_an_error() -> None:
    """Wide characters and bad base64 raise ValueError."""
    with pytest.raises(ValueError):
        subprotocols.decode("uint8utf8", "€".encode())
    with pytest.raises(ValueError):
        subprotocols.decode("base64", b"!")


def test_the_hosts_order_chooses_the_subprotocol() -> None:
    """The first one spoken here wins; nothing in common is None."""
    assert subprotocols.choose(["vmware-vvc", "binary"], ("binary", "vmware-vvc")) == "binary"
    assert subprotocols.choose([], ("binary",)) is None


def test_a_head_is_read() -> None:
    """Path and query part, repeated fields join, names have no case."""
    head = SimRequestHead.parse(b"GET /a%2f;x=1?fault=drop&b= HTTP/1.1\r\nUpgrade: WebSocket\r\nA: 1\r\na: 2")
    assert (head.method, head.path, dict(head.query)) == ("GET", "/a%2f;x=1", {"fault": ["drop"], "b": [""]})
    assert head.listed("a") == ["1", "2"] and head.upgrades
    for broken in (b"", b"GET /", b"GET x HTTP/1.1", b"GET / HTTP/2", b"GET / HTTP/1.1\r\nno", b"\xff\xfe"):
        with pytest.raises(BadHead):
            SimRequestHead.parse(broken)


def test_an_answer_has_its_length() -> None:
    """HEAD gets the same head without the body."""
    whole = SimResponse(599, "né\n").encode()
    assert whole.startswith(b"HTTP/1.1 599 Unnamed\r\n") and b"Content-Length: 4\r\n" in whole
    assert whole.removesuffix("né\n".encode()) == SimResponse(599, "né\n").encode(head_only=True)


def test_a_query_overrides_the_hosts_fault() -> None:
    """Names and numbers of the query win; nonsense is a ValueError."""
    plan = FaultPlan(SimFault.DROP)
    assert plan.for_query({}) is plan
    query = {"fault": ["close"], "code": ["4001"], "reason": ["bye"], "seconds": ["2.5"], "status": ["404"]}
    assert plan.for_query(query | {"body": ["no"]}) == FaultPlan(SimFault.CLOSE, 2.5, 404, "no", 4001, "bye")
    for wrong in (
        {"fault": ["nonsense"]},
        {"fault": ["silent-connect"]},
        {"fault": ["close"], "code": ["5000"]},
        {"fault": ["close"], "reason": ["x" * 124]},
        {"fault": ["refuse"], "status": ["99"]},
        {"fault": ["delay"], "seconds": ["nan"]},
        {"fault": ["delay"], "seconds": ["-1"]},
    ):
        with pytest.raises(ValueError):
            plan.for_query(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": None, "tls_port": None},
        {"private_key": Path("x")},
        {"width": 10},
        {"message_size": -1},
        {"frame_interval": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    """Each is a ValueError before anything is bound."""
    with pytest.raises(ValueError):
        HostOptions(**wrong)  # type: ignore[arg-type]


def test_a_certificate_is_kept(tmp_path: Path) -> None:
    """Made once with a private key file, the same after that; half a pair is an error."""
    path = tmp_path / "host.pem"
    made = certificate.load_or_make(path)
    assert certificate.load_or_make(path) == made
    assert stat.S_IMODE((tmp_path / "host.key").stat().st_mode) == 0o600
    assert re.fullmatch("([0-9A-F]{2}:){19}[0-9A-F]{2}", made.sha1)
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", made.sha256)
    assert "PRIVATE" not in repr(made) and "PRIVATE" in made.key_pem
    (tmp_path / "host.key").unlink()
    with pytest.raises(FileNotFoundError):
        certificate.load_or_make(path)


def test_wrong_arguments_end_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse's status 2, and a line that says why."""
    for arguments in (["--port", "none", "--tls-port", "none"], ["--fault", "nonsense"], ["--port", "70000"]):
        with pytest.raises(SystemExit) as stopped:
            run(arguments)
        assert stopped.value.code == 2
    assert "needs a port" in capsys.readouterr().err


class TestConsole:
    """A console on a machine whose clock the test moves."""

    def setup_method(self) -> None:
        self.clock = Clock()
        self.screen = Screen(640, 400)
        self.machine = VirtualMachine(
            self.screen, self.clock, 0.1, lambda: datetime.fromtimestamp(self.clock.seconds())
        )
        self.sent: list[bytes] = []
        self.ended: list[tuple[int, str]] = []
        self.console = ViewerConsole(self.machine, self.sent.append, lambda *end: self.ended.append(end))
        self.console.start()
        self.console.receive(GREETING)
        self.sent.clear()

    def test_the_picture_is_sent_when_asked_for_and_not_faster_than_it_moves(self) -> None:
        """At once for the first request, with the next step for the second."""
        self.console.receive(request(self.screen.bounds))
        assert len(self.sent) == 1
        self.console.receive(request(self.screen.bounds, incremental=True))
        assert len(self.sent) == 1
        self.clock.advance(0.1)
        assert len(self.sent) == 2
        self.clock.pump([0.1] * 10)
        assert len(self.sent) == 2

    def test_a_full_transport_gets_nothing(self) -> None:
        """The update waits until the transport is drained, and there is one."""
        self.console.pause()
        self.console.receive(request(self.screen.bounds) * 3)
        self.clock.pump([0.1] * 10)
        assert self.sent == []
        self.console.resume()
        assert len(self.sent) == 1

    def test_keys_and_buttons_reach_the_screen(self) -> None:
        """A key that goes down is typed; a button that goes down marks."""
        self.console.receive(b"\x04\x01\0\0\0\0\0A\x04\0\0\0\0\0\0A\x05\x01\0\x09\0\x09\x05\x01\0\x63\0\x63")
        assert self.screen.lines == ["A"]
        assert self.screen._mark == (9, 9)

    def test_the_timer_runs_only_for_viewers(self) -> None:
        """The last viewer that leaves stops it."""
        assert self.clock.getDelayedCalls() and self.machine.viewers == 1
        self.console.stop()
        assert not self.clock.getDelayedCalls() and not self.machine.viewers
        assert not self.screen.listeners

    def test_the_machine_ends_its_consoles(self) -> None:
        """The machine lists its consoles by label with the user of the ticket, and closes each connection."""
        assert [(label, viewer.user) for label, viewer in self.machine.consoles.items()] == [("mks-1", "")]
        self.machine.end_all(1001, "moved")
        assert self.ended == [(1001, "moved")]

    def test_a_broken_viewer_is_an_error(self) -> None:
        """The transport of the console gets the error."""
        with pytest.raises(RfbError):
            self.console.receive(b"\xff")
