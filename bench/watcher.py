"""Reads the page's event stream of a proxy and scrapes its metrics once a second, until it is ended."""

from __future__ import annotations

import socket
import sys
import threading
import time
from http.client import HTTPConnection

EVENTS = "/api/v1/events?view=sessions&limit=50"


class UnixConnection(HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def read_events(path: str) -> None:
    """Read the event stream as a page does."""
    connection = UnixConnection(path)
    connection.request("GET", EVENTS)
    response = connection.getresponse()
    while response.readline():
        pass


def main(path: str) -> None:
    """Wait for the socket at ``path``, and read from it."""
    while True:
        try:
            UnixConnection(path).connect()
            break
        except OSError:
            time.sleep(0.1)
    threading.Thread(target=read_events, args=(path,), daemon=True).start()
    connection = UnixConnection(path)
    while True:
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
