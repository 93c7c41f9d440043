"""The three listeners with `http = forward`, as `conf/proxy.ini` has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.support.certificates import Certificate
from tests.support.listeners import PROXY, Listeners
from tests.support.programs import Proxy, dead_port

TEXT = PROXY.replace("listen = 127.0.0.1:0\n", "listen = 127.0.0.1:0\nhttp = forward\n")
SCHEMES = {"one": "http", "two": "http", "three": "https"}
"""What a browser's URL of each listener begins with."""


@contextlib.contextmanager
def forwarding(
    plain: int, secure: int, shown: Certificate, own: Certificate, settings: str = ""
) -> Iterator[Listeners]:
    """The proxy in front of a plain and a TLS port; `settings` are lines for its `[proxy]`."""
    with dead_port() as nobody:
        values = {"plain": plain, "secure": secure, "nobody": nobody, "pin": shown.sha256}
        text = TEXT.format(certificate=own.path, key=own.key_path, **values)
        with Proxy(text.replace("[proxy]\n", f"[proxy]\n{settings}")) as proxy:
            yield Listeners(proxy, proxy.ports)
