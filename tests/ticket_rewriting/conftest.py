"""The ticket filters of a listener, which every test has for itself."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet.task import Clock

from esxiproxy.state.memory import Memory, MemoryState
from esxiproxy.ticket_rewriting.filters import TicketFilters
from tests.ticket_rewriting.tickets_scene import (
    NOW,
    PROXY,
)


@pytest.fixture
def filters():
    networks = (ip_network("192.0.2.0/24"),)
    return TicketFilters(PROXY, networks, MemoryState(Clock(), Memory(lambda: NOW)), lambda: NOW)
