"""Networks that are made for a test: namespaces around a router, whose links are cut without a packet."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.programs import need

CLONE_NEWNET = 0x40000000
LISTENING, TIME_WAIT = "0A", "06"
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> None:
    """Run iproute2, which has to succeed."""
    done = subprocess.run([need("ip", "iproute2"), *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@dataclass(frozen=True)
class Namespace:
    """One network namespace, with its only address."""

    name: str
    address: str

    def ip(self, *arguments: str) -> None:
        """Run iproute2 in here."""
        ip("-n", self.name, *arguments)

    def command(self) -> list[str]:
        """Return the beginning of a command that runs in this namespace with the same process id."""
        return [need("ip", "iproute2"), "netns", "exec", self.name]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into the namespace for a while; its sockets and threads stay there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as here:
            _enter(here.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def connections(self, port: int) -> int:
        """Return the number of TCP connections of this port in any state before TIME_WAIT."""
        with self.entered():
            rows = [row.split() for row in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]]
        states = [row[3] for row in rows if int(row[1].rpartition(":")[2], 16) == port]
        return sum(state not in (LISTENING, TIME_WAIT) for state in states)


@dataclass(frozen=True)
class Network:
    """Clients, the proxy and the hosts, each behind a link of its own to one router."""

    router: Namespace
    clients: Namespace
    proxy: Namespace
    hosts: Namespace

    @contextlib.contextmanager
    def cut(self, end: Namespace) -> Iterator[None]:
        """Let the router drop every packet from there and to there, without an ICMP message."""
        rules = [("from", end.address), ("to", end.address)]
        for rule in rules:
            self.router.ip("rule", "add", *rule, "blackhole")
        try:
            yield
        finally:
            for rule in rules:
                self.router.ip("rule", "del", *rule, "blackhole")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Create four namespaces and remove them afterwards; skip the test without the permission for that."""
    need("ip", "iproute2")
    if os.getuid() != 0:
        pytest.skip("only root makes network namespaces")
    prefix = f"esxiproxy-{os.getpid()}-{next(_numbers)}"
    router = Namespace(f"{prefix}-router", "")
    ends = [
        Namespace(f"{prefix}-{name}", f"10.77.{number}.2")
        for number, name in enumerate(("clients", "proxy", "hosts"), 1)
    ]
    with contextlib.ExitStack() as stack:
        for namespace in (router, *ends):
            _add(namespace)
            stack.callback(ip, "netns", "delete", namespace.name)
            namespace.ip("link", "set", "lo", "up")
        for number, end in enumerate(ends, 1):
            _join(router, end, f"10.77.{number}.1", f"end{number}")
        with router.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        yield Network(router, *ends)


def _add(namespace: Namespace) -> None:
    try:
        ip("netns", "add", namespace.name)
    except AssertionError as problem:  # a container's root
        pytest.skip(str(problem))


def _join(router: Namespace, end: Namespace, gateway: str, name: str) -> None:
    router.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", end.name)
    router.ip("address", "add", f"{gateway}/24", "dev", name)
    router.ip("link", "set", name, "up")
    end.ip("address", "add", f"{end.address}/24", "dev", "eth0")
    end.ip("link", "set", "eth0", "up")
    end.ip("route", "add", "default", "via", gateway)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
