"""The diagnosis of a console: each step from the DNS lookup to the Close, until one fails."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from esxiproxy.core.websocket.handshake import BINARY
from esxiproxy.doctor import facts, probe
from esxiproxy.doctor.addresses import Endpoint, resolve
from esxiproxy.doctor.console import ConsoleConnection
from esxiproxy.doctor.deadline import Clock, Deadline
from esxiproxy.doctor.dial import dial
from esxiproxy.doctor.finding import Finding, Step
from esxiproxy.doctor.messages import console as of_console
from esxiproxy.doctor.messages import opening as of_opening
from esxiproxy.doctor.messages import reach as of_reach
from esxiproxy.doctor.messages import tls as of_tls
from esxiproxy.doctor.opening import OpeningFault, UpgradeExchange, UpgradeResponse, opening_fields
from esxiproxy.doctor.sanitize import Sanitizer
from esxiproxy.doctor.tls import TlsFault, TlsReport, connect_verified, inspect_tls
from esxiproxy.doctor.trust import HostVerification
from esxiproxy.doctor.url import ConsoleUrl
from esxiproxy.doctor.wire import PlainWire, TlsWire, Wire

PING_TIMEOUT = 2.0
"""Longest wait in seconds for the answer to a Ping or a Close.  ESXi does not answer a Ping."""

_PROBED_TLS = frozenset({TlsFault.SILENT, TlsFault.ENDED, TlsFault.REFUSED})
_PROBED_OPENING = frozenset({OpeningFault.SILENT, OpeningFault.ENDED, OpeningFault.RESET})


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """Options of a diagnosis; ``timeout`` limits each step, in seconds."""

    subprotocols: tuple[str, ...] = (BINARY.decode(),)
    trust: HostVerification = field(default_factory=HostVerification)
    timeout: float = 5.0


class Diagnosis:
    """A diagnosis of one console.  Iteration runs the steps and yields the finding of each.

    Iteration raises TLSFileError if the file of authorities cannot be used.
    """

    def __init__(self, url: ConsoleUrl, options: DoctorOptions, clock: Clock = time.monotonic) -> None:
        self._url = url
        self._options = options
        self._clock = clock
        self._sanitizer = Sanitizer(url)
        self._open: list[Wire] = []
        self._started = clock()

    def __iter__(self) -> Iterator[Finding]:
        try:
            yield from self._examine()
        finally:
            for wire in self._open:
                wire.close()

    def _examine(self) -> Iterator[Finding]:
        url, timeout = self._url, self._options.timeout
        resolution = resolve(url.host, url.port, self._deadline())
        sentence = of_reach.dns(url, resolution, timeout)
        yield self._finding(Step.DNS, resolution.fault is None, sentence, facts.dns(resolution))
        if resolution.fault is not None:
            return
        dialled = dial(resolution.endpoints, self._deadline())
        if dialled.socket is not None:
            self._open.append(PlainWire(dialled.socket))
        sentence = of_reach.tcp(url, dialled, timeout)
        yield self._finding(Step.TCP, dialled.chosen is not None, sentence, facts.tcp(dialled))
        if dialled.chosen is None:
            return
        plain = self._open[-1]
        assert isinstance(plain, PlainWire)
        if url.secure:
            yield from self._check_tls(dialled.chosen.endpoint, plain)
        else:
            yield from self._check_handshake(dialled.chosen.endpoint, plain)

    def _check_tls(self, endpoint: Endpoint, plain: PlainWire) -> Iterator[Finding]:
        trust, deadline = self._options.trust, self._deadline()
        report = inspect_tls(self._url, plain, trust.ca, deadline)
        wire: TlsWire | None = None
        if report.fault is None and (again := self._dial_again(endpoint, deadline)) is not None:
            report, wire = connect_verified(self._url, again, trust, report, deadline)
        elif report.fault is None:
            report = TlsReport(TlsFault.ENDED, "a second connection failed")
        elif report.fault in _PROBED_TLS and self._probe_http(endpoint):
            report = TlsReport(TlsFault.PLAIN_HTTP, greeting=report.greeting)
        sentence = of_tls.tls(self._url, report, trust, self._options.timeout)
        if wire is not None:
            self._open.append(wire)
        yield self._finding(Step.TLS, wire is not None, sentence, facts.tls(report, trust, wire is not None))
        if wire is not None:
            yield from self._check_handshake(endpoint, wire)

    def _check_handshake(self, endpoint: Endpoint, wire: Wire) -> Iterator[Finding]:
        url, offered = self._url, self._options.subprotocols
        key = base64.b64encode(os.urandom(16))
        fields = opening_fields(url, offered, key)
        answer = UpgradeExchange(url, fields, key).perform(wire, self._deadline())
        # nginx and other servers answer a plain request to a TLS port with 400.
        odd = answer.fault in _PROBED_OPENING or answer.status == 400
        if odd and not url.secure and self._probe_tls(endpoint):
            answer = UpgradeResponse(OpeningFault.TLS)
        request = [f"GET {self._sanitizer.target} HTTP/1.1", *self._sanitizer.fields(fields)]
        sentence = of_opening.opening(url, answer, offered, self._options.timeout)
        seen = facts.handshake(request, answer, self._sanitizer)
        yield self._finding(Step.HANDSHAKE, answer.fault is None, sentence, seen)
        if answer.fault is None:
            chosen = answer.subprotocols
            right = len(chosen) == 1 and chosen[0] in offered if chosen else not offered
            sentence = of_opening.subprotocol(url, offered, chosen)
            yield self._finding(Step.SUBPROTOCOL, right, sentence, facts.subprotocol(offered, chosen))
            console = ConsoleConnection(wire, answer.early, chosen[0] if chosen else None)
            yield from self._check_frames(console)

    def _check_frames(self, console: ConsoleConnection) -> Iterator[Finding]:
        """Check the first frame, a Ping and the Close.  A wrong subprotocol does not prevent these checks."""
        url, timeout = self._url, self._options.timeout
        waited = min(timeout, PING_TIMEOUT)
        first = console.first_frame(self._deadline())
        sentence = of_console.first_frame(url, first, console.closed, timeout)
        seen = facts.first_frame(first, console.closed)
        yield self._finding(Step.FIRST_FRAME, first.fault is None, sentence, seen)
        if console.ended:
            return
        if console.closed is None:
            answered = console.ping(self._deadline(PING_TIMEOUT))
            sentence = of_console.ping(answered, waited)
            yield self._finding(Step.PING, True, sentence, {"answered": answered})
        answered = console.close(self._deadline(PING_TIMEOUT))
        sentence = of_console.closing(answered, console.closed, waited)
        yield self._finding(Step.CLOSE, True, sentence, facts.closing(console.closed))

    def _deadline(self, at_most: float | None = None) -> Deadline:
        """Start a step and return its deadline, ``at_most`` seconds from now."""
        self._started = self._clock()
        seconds = self._options.timeout if at_most is None else min(self._options.timeout, at_most)
        return Deadline(seconds, self._clock)

    def _finding(self, step: Step, ok: bool, sentence: str, seen: dict[str, object]) -> Finding:
        """Return the finding of the current step without secrets."""
        seconds = 0.0 if step is Step.SUBPROTOCOL else self._clock() - self._started
        return Finding(step, ok, seconds, self._sanitizer.text(sentence), self._sanitizer.facts(seen))

    def _dial_again(self, endpoint: Endpoint, deadline: Deadline) -> PlainWire | None:
        """Open another connection to the same address; return None if that fails."""
        opened = dial([endpoint], deadline).socket
        if opened is None:
            return None
        self._open.append(wire := PlainWire(opened))
        return wire

    def _probe_http(self, endpoint: Endpoint) -> bool:
        deadline = Deadline(min(self._options.timeout, probe.SECONDS), self._clock)
        wire = self._dial_again(endpoint, deadline)
        return wire is not None and probe.speaks_http(self._url, wire, deadline)

    def _probe_tls(self, endpoint: Endpoint) -> bool:
        deadline = Deadline(min(self._options.timeout, probe.SECONDS), self._clock)
        wire = self._dial_again(endpoint, deadline)
        return wire is not None and probe.speaks_tls(self._url, wire, deadline)
