"""The objects that a drain may name, with tests of every kind, and consoles that it refuses."""

import pytest

from esxiproxy.core.routing import Destination, Identity, Route, TCPAddress, Upstream
from tests.net.opening_scene import status

FLEET = Upstream("fleet", "", 443, False, failover_delay=1.0)


def fleet(*hosts, name="Rack 4", template=FLEET, **more):
    addresses = tuple(TCPAddress(host, 443) for host in hosts)
    return Route(Destination(addresses, False, Identity(), name, template), **more)


KINDS = {
    "the proxy": ("proxy", ""),
    "a listener": ("listener", "one"),
    "an upstream": ("upstream", "esxi1"),
    "a host by its name": ("host", "ESXi1"),
    "a host by its address": ("host", "::ffff:192.0.2.10"),
}
OTHERS = [("listener", "two"), ("upstream", "esxi2"), ("host", "esxi2"), ("host", "192.0.2.1")]
every_kind = pytest.mark.parametrize("what", KINDS.values(), ids=KINDS)

GET = b"GET /ui/ HTTP/1.1\r\nHost: proxy.example\r\n\r\n"


def is_refused(process, listener="one"):
    """Open a console, and return whether it is refused because of a drain and nothing was dialled."""
    dialled, asked = len(process.connector.dialled_hosts), len(process.recorder.records)
    client = process.begin(listener)
    if len(process.connector.dialled_hosts) > dialled:
        assert client.received == b""
        client.reset()
        process.pump()
        return False
    assert status(client.received) == 503, client.received
    assert process.recorder.records[asked].error == "Draining"
    return True
