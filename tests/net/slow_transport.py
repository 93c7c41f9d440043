"""A transport whose unsent bytes are set by the test."""

from esxiproxy.net.sockets.tcp_info import TCPInfo

SLOW = 1000
"""Bytes that a slow reader receives in a second."""


class Slow:
    """A transport whose unsent bytes are set by the test."""

    def __init__(self, unsent=100_000):
        self.unsent_bytes = unsent
        self.aborted = False

    def loseWriteConnection(self):
        pass

    def abortConnection(self):
        self.aborted = True


def tcp(acknowledged):
    return TCPInfo(
        acknowledged,
        has_unacked=True,
        window_closed=False,
        has_unanswered_probe=False,
        seconds_since_heard=0.0,
    )
