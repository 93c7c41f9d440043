"""Endless request heads: ``flooding.py PORT SECONDS CONNECTIONS`` sends them as fast as possible.

The program runs at a low priority, because a real attacker does not share the processor of the proxy.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

PIECE = b"x" * 65536


def flood(port: int, until: float) -> None:
    """Send on one connection after another, and read no answer."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as stream:
            stream.settimeout(0.5)
            stream.sendall(b"GET / HTTP/1.1\r\nX: ")
            while time.monotonic() < until:
                stream.sendall(PIECE)


def main(port: str, seconds: str, connections: str) -> None:
    os.nice(19)
    until = time.monotonic() + float(seconds)
    threads = [threading.Thread(target=flood, args=(int(port), until)) for _ in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
