"""Flow control of a transport, over Twisted's transports and ours."""

from __future__ import annotations

import pytest

from tests.net.transport.loop import Producer, noise

# Flow control


def test_a_push_producer_is_paused_and_resumed(net):
    client, server = net.pair()
    server.transport.pauseProducing()
    producer = Producer()
    client.transport.registerProducer(producer, True)
    with pytest.raises(RuntimeError):
        client.transport.registerProducer(Producer(), True)
    written = 0
    for _ in range(100):  # until the socket buffers, which grow, are full as well
        while not producer.calls or producer.calls[-1] == "resume":
            client.transport.write(bytes(50_000))
            written += 50_000
            net.turn()
        net.settle(60)
        if producer.calls[-1] == "pause":
            break
    else:
        raise AssertionError("it was resumed though nobody reads")
    producer.calls.clear()
    server.transport.resumeProducing()
    net.until(lambda: "resume" in producer.calls)
    net.until(lambda: len(server.got) == written)
    client.transport.unregisterProducer()
    client.transport.loseConnection()
    net.until(lambda: client.lost and server.lost)
    assert "stop" not in producer.calls


def test_a_pull_producer_is_asked_until_it_has_no_more(not_stock_tls):
    net = not_stock_tls  # Twisted's TLS asks on the global reactor
    client, server = net.pair()
    pieces = [noise(size) for size in (1, 100_000, 7, 500_000, 3)]
    left = list(pieces)

    class Pull:
        deep = 0

        def resumeProducing(self):
            self.deep += 1
            assert self.deep == 1
            if left:
                client.transport.write(left.pop(0))
            else:
                client.transport.unregisterProducer()
                client.transport.loseConnection()
            self.deep -= 1

        def stopProducing(self):
            raise AssertionError("it was unregistered")

    client.transport.registerProducer(Pull(), False)
    net.until(lambda: server.lost)
    assert bytes(server.got) == b"".join(pieces)


def test_a_producer_is_stopped_when_the_connection_is_lost(net):
    client, server = net.pair()
    producer = Producer()
    client.transport.registerProducer(producer, True)
    server.transport.abortConnection()
    net.until(lambda: client.lost)
    assert producer.calls[-1] == "stop"


def test_a_pause_in_data_received_is_the_last_call(net):
    client, server = net.pair()
    server.on_octets = lambda peer, _octets: peer.transport.pauseProducing()
    sent = noise(1_000_000)
    client.transport.write(sent)
    net.until(lambda: server.chunks)
    net.settle()
    if net.ours or not net.tls:  # Twisted's TLS delivers what it has decrypted
        assert len(server.chunks) == 1

    while len(server.got) < len(sent):
        before = len(server.chunks)
        server.transport.resumeProducing()
        assert len(server.chunks) == before  # not in the stack of the resume
        net.until(lambda n=before: len(server.chunks) > n)
    assert bytes(server.got) == sent


def test_a_paused_transport_sees_no_end(plain):
    client, server = plain.pair()
    server.transport.pauseProducing()
    client.transport.loseConnection()
    plain.settle()
    assert server.lost is None
    server.transport.resumeProducing()
    plain.until(lambda: server.lost)


def test_an_idle_connection_costs_no_turns(net):
    """No event is registered that is always ready, since epoll would spin."""
    client, server = net.pair()
    client.transport.write(b"x")
    net.until(lambda: server.got)
    net.settle()
    turns = []
    original = net.core.doIteration
    net.core.callLater(0.05, turns.append, "over")
    count = 0
    while not turns:
        net.core.runUntilCurrent()
        if turns:
            break
        original(net.core.timeout())
        count += 1
    assert count < 5
