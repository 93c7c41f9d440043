"""The one way to write a configuration in the tests: `ini(listener(), upstream(port), workers=2)`.

A keyword is a key of the section. None as its value leaves the key out. A path is written as it is, and True
and False as `yes` and `no`.
"""

from __future__ import annotations

from tests.support.certificates import Certificate


def ini(*sections: str, more: str = "", **proxy: object) -> str:
    """Return a configuration of these sections; the keywords and the lines `more` stand in [proxy]."""
    return _section("[proxy]", proxy, more) + "".join(sections)


def listener(
    name: str = "one",
    upstream: str | None = "esxi1",
    listen: str = "127.0.0.1:0",
    tls: Certificate | None = None,
    more: str = "",
    **keys: object,
) -> str:
    """Return a listener's section, by default on a free port; with `tls`, it has this certificate."""
    files = {} if tls is None else {"certificate": tls.path, "private_key": tls.key_path}
    return _section(f"[listener {name}]", {"listen": listen, "upstream": upstream, **files, **keys}, more)


def upstream(
    where: int | str,
    name: str = "esxi1",
    pin: Certificate | None = None,
    more: str = "",
    **keys: object,
) -> str:
    """Return an upstream's section.

    `where` is a URL or a port on 127.0.0.1, which has TLS if `pin` is the certificate to expect.
    """
    scheme = "ws" if pin is None else "wss"
    url = f"{scheme}://127.0.0.1:{where}" if isinstance(where, int) else where
    pinned = {} if pin is None else {"verify": "pin", "pin": f"sha256:{pin.sha256}"}
    return _section(f"[upstream {name}]", {"url": url, **pinned, **keys}, more)


def template(name: str = "esxi", more: str = "", **keys: object) -> str:
    """Return the section of an upstream that has no host of its own."""
    return _section(f"[upstream {name}]", keys, more)


def router(name: str, type: str, more: str = "", **keys: object) -> str:
    """Return a router's section."""
    return _section(f"[router {name}]", {"type": type, **keys}, more)


def authenticator(name: str, type: str, more: str = "", **keys: object) -> str:
    """Return an authenticator's section."""
    return _section(f"[authenticator {name}]", {"type": type, **keys}, more)


def _section(header: str, keys: dict[str, object], more: str) -> str:
    words = {True: "yes", False: "no"}
    lines = [
        f"{key} = {words[value] if isinstance(value, bool) else value}"
        for key, value in keys.items()
        if value is not None
    ]
    return "\n".join([header, *lines, *([more.strip()] if more.strip() else []), "", ""])
