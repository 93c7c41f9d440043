"""Hosts for the tests: the real program in a process of its own, on free ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

# So that the tests' own modules are found however pytest was started.
from tests.support.sim_program import Host, start, stop


@pytest.fixture
def host_with() -> Iterator[Callable[..., Host]]:
    """Return a function that starts a host with these arguments; each ends with the test, with status 0."""
    hosts: list[Host] = []

    def begin(*arguments: str) -> Host:
        hosts.append(start(*arguments))
        return hosts[-1]

    yield begin
    assert [stop(host) for host in hosts] == [0] * len(hosts)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Run one host with the default options for a whole file."""
    running = start()
    yield running
    assert stop(running) == 0
