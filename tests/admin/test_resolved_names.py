"""Names of hosts are looked up in the background, one at a time, and again after a minute."""

import socket

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.admin import resolved_names
from esxiproxy.admin.resolved_names import LIFE, MAX_NAMES, ResolvedNames


class Lookups:
    """Lookups whose answers the test gives."""

    def __init__(self):
        self.clock = Clock()
        self.asked = []
        self.names = ResolvedNames(self._in_thread, self.clock.seconds)

    def _in_thread(self, call, name):
        self.asked.append((name, Deferred()))
        return self.asked[-1][1]

    def answer(self, *addresses):
        self.asked[-1][1].callback(addresses)


def test_one_name_at_a_time_is_looked_up():
    lookups = Lookups()
    lookups.names.resolve(["a", "b", "a"])
    assert [name for name, _ in lookups.asked] == ["a"] and lookups.names.addresses("a") == ()
    lookups.names.resolve(["a", "b"])
    lookups.answer("192.0.2.1")
    assert lookups.names.addresses("a") == ("192.0.2.1",)
    assert [name for name, _ in lookups.asked] == ["a", "b"]
    lookups.answer()
    lookups.names.resolve(["a", "b"])
    assert len(lookups.asked) == 2, "they are known for a minute"


def test_a_failed_lookup_keeps_what_was_known():
    lookups = Lookups()
    lookups.names.resolve(["a"])
    lookups.answer("192.0.2.1")
    lookups.clock.advance(LIFE)
    lookups.names.resolve(["a"])
    lookups.answer()
    assert lookups.names.addresses("a") == ("192.0.2.1",)
    lookups.names.resolve([])
    assert lookups.names.addresses("a") == ()


def test_the_number_of_names_is_bounded():
    lookups = Lookups()
    lookups.names.resolve(f"h{number}" for number in range(2 * MAX_NAMES))
    for _ in range(MAX_NAMES):
        lookups.answer("192.0.2.1")
    assert len(lookups.asked) == MAX_NAMES


def test_the_addresses_are_those_by_which_connections_are_counted(monkeypatch):
    def getaddrinfo(name, port, type):
        if name == "none":
            raise socket.gaierror(-2, "Name or service not known")
        return [(2, 1, 6, "", (address, 0)) for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:DB8::1")]

    monkeypatch.setattr(resolved_names.socket, "getaddrinfo", getaddrinfo)
    assert resolved_names._addresses("a") == ("192.0.2.1", "2001:db8::1")
    assert resolved_names._addresses("none") == ()
