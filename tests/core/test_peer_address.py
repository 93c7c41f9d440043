"""The address of a peer as text, and read again."""

import pytest

from esxiproxy.core.peer_address import PeerAddress


@pytest.mark.parametrize(
    "client", [PeerAddress("192.0.2.1", 7), PeerAddress("2001:db8::1", 7), PeerAddress("unix", 0)], ids=str
)
def test_an_address_is_read_as_it_was_written(client):
    assert PeerAddress.read(str(client)) == client
