"""The health of addresses, and the order in which the addresses of a destination are tried."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from esxiproxy.core.networks import canonical
from esxiproxy.core.routing import Balance
from esxiproxy.net.upstream.race import Candidate

FAILURES = 3
"""Failures in a row after which an address is down."""
BACK_OFF = 10.0
"""Seconds after which an address that is down is tried again; each further failure doubles them."""
MAX_BACK_OFF = 300.0
SLOW_START = 30.0
"""Seconds in which an address that is up again gets its full part of the sessions."""
_REMEMBERED = 4096
"""Maximum number of addresses whose failures are remembered."""

Address = tuple[str, int]
"""The text of an IP address, an IPv4-mapped one as IPv4, and a port."""


def address_of(candidate: Candidate) -> Address:
    """Return the address of a candidate as the health of addresses is stored."""
    return canonical(candidate.host), candidate.upstream.port


@dataclass(slots=True)
class _Failures:
    """The failures of an address: their number in a row, and when it may be tried again."""

    in_a_row: int = 0
    until: float = 0.0
    back_off: float = BACK_OFF
    up_since: float | None = None


class Health:
    """The health of addresses as one process knows it.

    Failures of this process are its own.  ``set_checked`` adds the results of the active checks, which all
    processes share.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[Address, _Failures] = OrderedDict()
        self._checked: Mapping[Address, bool] = {}

    def failed(self, address: Address) -> None:
        """Note a failure of an address, before or after its connection was made."""
        now = self._clock.seconds()
        known = self._failures.setdefault(address, _Failures())
        self._failures.move_to_end(address)
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        known.in_a_row += 1
        if known.in_a_row >= FAILURES:
            if known.in_a_row > FAILURES:
                known.back_off = min(2 * known.back_off, MAX_BACK_OFF)
            known.until = now + known.back_off
            self._log.warn(
                "upstream address {host}:{port} has failed {number} times in a row; other addresses are "
                "preferred for {seconds:g} s",
                host=address[0],
                port=address[1],
                number=known.in_a_row,
                seconds=known.back_off,
            )

    def succeeded(self, address: Address) -> None:
        """Note that an address serves."""
        known = self._failures.get(address)
        if known is None:
            return
        if known.in_a_row >= FAILURES:
            self._log.info("upstream address {host}:{port} serves again", host=address[0], port=address[1])
            known.up_since = self._clock.seconds()
        elif known.up_since is None or self._part(known) >= 1:
            del self._failures[address]
            return
        known.in_a_row, known.until, known.back_off = 0, 0.0, BACK_OFF

    def set_checked(self, checked: Mapping[Address, bool]) -> None:
        """Use the results of the active checks."""
        now = self._clock.seconds()
        for address, is_up in checked.items():
            if is_up and self._checked.get(address) is False:
                known = self._failures.setdefault(address, _Failures())
                known.in_a_row, known.until, known.up_since = 0, 0.0, now
        self._checked = checked

    def is_down(self, address: Address) -> bool:
        """Return whether other addresses are preferred to this one."""
        known = self._failures.get(address)
        if known is not None and known.until > self._clock.seconds():
            return True
        return self._checked.get(address) is False

    def part(self, address: Address) -> float:
        """Return the part of its sessions that an address gets: less than 1 after it came back."""
        known = self._failures.get(address)
        return 1.0 if known is None else self._part(known)

    def _part(self, known: _Failures) -> float:
        if known.up_since is None:
            return 1.0
        return min(1.0, (self._clock.seconds() - known.up_since) / SLOW_START)


class Balancer:
    """The order of the addresses of destinations.

    ``connections`` returns the number of connections to an address that this process has.
    """

    def __init__(
        self, health: Health, connections: Callable[[str], int], random_part: Callable[[], float]
    ) -> None:
        self._health = health
        self._connections = connections
        self._random_part = random_part
        self._turns: dict[str, int] = {}

    def order(self, candidates: Sequence[Candidate], client: str) -> tuple[Candidate, ...]:
        """Return the candidates in the order in which they are tried for a client.

        Addresses that are down come last; they are tried when nothing else is left.
        """
        template = candidates[0].upstream
        ordered = self._balanced(template.balance, template.name, candidates, client)
        if template.balance is not Balance.FIRST:
            ordered = self._with_slow_start(ordered)
        return tuple(sorted(ordered, key=lambda candidate: self._health.is_down(address_of(candidate))))

    def _balanced(
        self, balance: Balance, name: str, candidates: Sequence[Candidate], client: str
    ) -> list[Candidate]:
        if balance is Balance.ROUND_ROBIN:
            turn = self._turns[name] = self._turns.get(name, -1) + 1
            first = turn % len(candidates)
            return [*candidates[first:], *candidates[:first]]
        if balance is Balance.LEAST_SESSIONS:
            return sorted(candidates, key=lambda candidate: self._connections(canonical(candidate.host)))
        if balance is Balance.HASH:
            return sorted(candidates, key=lambda candidate: _weight(client, address_of(candidate)))
        return list(candidates)

    def _with_slow_start(self, ordered: Iterable[Candidate]) -> list[Candidate]:
        """Return the candidates, with those that have just come back at the end as often as is right."""
        ready: list[Candidate] = []
        waiting: list[Candidate] = []
        for candidate in ordered:
            part = self._health.part(address_of(candidate))
            (ready if part >= 1 or self._random_part() < part else waiting).append(candidate)
        return ready + waiting


def _weight(client: str, address: Address) -> bytes:
    """Return the place of an address for a client (rendezvous hashing): others do not change it."""
    return hashlib.blake2b(f"{client} {address[0]} {address[1]}".encode(), digest_size=8).digest()
