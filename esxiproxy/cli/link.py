"""``esxiproxy link``: makes or revokes a link of a router of the type ``links``."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from esxiproxy.app.preflight import load
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.loader import Config, ConfigError, Upstream
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.quantities import duration
from esxiproxy.core.config.router_keys import networks_of
from esxiproxy.core.errors import LinkInvalid, StateUnavailable
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.http.link_place import LinkPlace
from esxiproxy.core.link import (
    LEEWAY,
    LONGEST,
    MANY,
    make_token,
    new_id,
    read_claims,
    sealed_claims,
)
from esxiproxy.core.link_keys import InvalidKeys, read_keys
from esxiproxy.core.networks import Networks
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.routers.links import OPAQUE_SPACE, REVOKED_SPACE, destination_of
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times

NAME = "link"
HELP = "make a link to a console, or revoke one"

_DESCRIPTION = """\
Makes a link of a router of the type `links` and prints its URL, which is under the
public_url of the listener that names the router. Opaque links and --revoke need
`state = sqlite:PATH` in the configuration.
"""
_EPILOG = """\
A link works once unless --reuse or --many is given. Other users of this machine can see
the arguments of a command: with `--to -` the host is read from standard input.

exit status: 0 the link was made or revoked, 1 it was not, 2 wrong usage
"""


class _Refused(Exception):
    """The command cannot be carried out; the text gives the reason and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--config",
        default="conf/proxy.ini",
        metavar="FILE",
        help="the configuration of the proxy (conf/proxy.ini)",
    )
    parser.add_argument("--router", required=True, metavar="NAME", help="NAME of the [router NAME]")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--to", metavar="HOST[:PORT][/PATH]", help="host of the console, and the target to send to it"
    )
    what.add_argument("--revoke", metavar="ID", help="revoke the link with this id, and end its consoles")
    parser.add_argument(
        "--ttl", type=_duration, default=300.0, metavar="TIME", help="time until the link expires (5m)"
    )
    use = parser.add_mutually_exclusive_group()
    use.add_argument("--once", action="store_true", help="the link works once (the default)")
    use.add_argument(
        "--reuse", type=_duration, metavar="TIME", help="it works again for this time after a disconnect"
    )
    use.add_argument("--many", action="store_true", help="it works until it expires")
    parser.add_argument("--subject", metavar="NAME", help="the principal of the session")
    parser.add_argument(
        "--pin", action="append", metavar="sha256:HEX", help="thumbprint of the host's certificate"
    )
    parser.add_argument("--net", metavar="CIDR", help="network of the clients that may use the link")
    parser.add_argument("--listener", metavar="NAME", help="the listener, where several name the router")
    parser.add_argument("--json", action="store_true", help="print JSON, with the id of the link")


def run(arguments: argparse.Namespace) -> int:
    """Make or revoke a link; return 0 on success, else 1."""
    try:
        config = load(arguments.config)
        router = _router(config, arguments.router)
        revokes = arguments.revoke is not None
        lines = _revoke(config, arguments) if revokes else _make(config, router, arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (_Refused, InvalidKeys) as error:
        print(f"esxiproxy link: {error}", file=sys.stderr)
        return 1
    except StateUnavailable as error:
        print(f"esxiproxy link: {config.state}: {error.detail}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def _duration(text: str) -> float:
    try:
        return duration(text)
    except BadValue as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _router(config: Config, name: str) -> PluginSection:
    router = config.routers.get(name)
    if router is None or router.type.name != "links":
        links = [name for name, each in config.routers.items() if each.type.name == "links"]
        there = f"there is {', '.join(links)}" if links else "there is none"
        raise _Refused(f"{config.source} has no [router {name}] with type = links: {there}")
    return router


def _public_url(config: Config, router: PluginSection, wanted: str | None) -> str:
    """Return the public URL of the listener that names a router."""
    found = [each for each in config.listeners if router in each.routers]
    names = ", ".join(each.name for each in found)
    if wanted is not None:
        found = [each for each in found if each.name == wanted]
    if not found:
        names = f": those that do are {names}" if names else ""
        which = "no listener names" if wanted is None else f"no [listener {wanted}] names"
        raise _Refused(f"{which} the [{router.section}] in its `router`{names}")
    if len(found) > 1:
        raise _Refused(f"several listeners name the [{router.section}]: choose with --listener {names}")
    if found[0].public_url is None:
        raise _Refused(
            f"[listener {found[0].name}] has no public_url, with which links begin: "
            "write public_url = https://consoles.example.com"
        )
    return found[0].public_url


def _make(config: Config, router: PluginSection, arguments: argparse.Namespace) -> list[str]:
    """Make a link and return what is printed."""
    settings = router.settings
    public_url = _public_url(config, router, arguments.listener)
    template = config.upstreams[settings["template"]]
    claims = _claims(arguments, settings, template)
    try:
        link = read_claims(claims, settings["issuer"], settings["audience"], claims["iat"])
        destination = destination_of(link, template, networks_of(settings))
    except LinkInvalid as error:
        raise _Refused(error.detail) from None
    if not _may_be_dialled(link.host, destination.networks):
        raise _Refused(f"{link.host} is not in `allow` of the [{router.section}], or in its `deny`")
    if settings["opaque"]:
        text = new_id()
        with _state(config, f"[{router.section}] has opaque = yes: the claims of its links") as store:
            stored = sealed_claims(claims, text, router.section)
            store.put(OPAQUE_SPACE, key_of(text), stored, link.expires + LEEWAY, True)
    else:
        text = _signed(claims, router)
    place: LinkPlace = settings["locate"]
    url, field = place.url(public_url, text), place.field(text)
    if arguments.json:
        named = {place.kind.value: field} if field else {}
        return [json.dumps({"url": url, "id": link.id, "expires": link.expires, **named})]
    return [url, *([f"{place.kind.value}: {field}"] if field else [])]


def _may_be_dialled(host: str, networks: Networks) -> bool:
    """Return whether an address may be dialled; that of a name is known when a console opens."""
    try:
        return networks.permits(ip_address(host))
    except ValueError:
        return True


def _claims(arguments: argparse.Namespace, settings: Any, template: Upstream) -> dict[str, Any]:
    now = time.time()
    host, port, path = _target(arguments.to, 443 if template.secure else 80)
    claims: dict[str, Any] = {
        "iss": settings["issuer"],
        "aud": settings["audience"],
        "iat": now,
        "nbf": now,
        "exp": now + arguments.ttl,
        "jti": secrets.token_hex(16),
        "to": {"host": host, "port": port, "path": path},
    }
    optional = {"sub": arguments.subject, "pin": arguments.pin, "net": arguments.net}
    claims.update({name: value for name, value in optional.items() if value is not None})
    if arguments.many or arguments.reuse is not None:
        claims["reuse"] = MANY if arguments.many else arguments.reuse
    return claims


def _target(text: str, port: int) -> tuple[str, int, str]:
    """Return host, port and path in ``HOST[:PORT][/PATH]``."""
    if text == "-":
        text = sys.stdin.readline().strip()
    authority, slash, path = text.partition("/")
    host, colon, number = authority.rpartition(":")
    if authority.startswith("["):
        host, bracket, number = authority[1:].partition("]")
        colon, number = number[:1], number[1:]
        if not bracket or ":" not in host or colon not in ("", ":"):
            raise _Refused("--to: an IPv6 address stands in brackets, as in [2001:db8::1]:443")
    elif not colon:
        host, number = authority, ""
    try:
        host = plain_host(host)
    except ValueError as error:
        raise _Refused(f"--to: {error}: write HOST[:PORT][/PATH], as in esxi1.example.com") from None
    if colon:
        if not (number.isascii() and number.isdigit() and 0 < len(number) <= 5 and 0 < int(number) < 65536):
            raise _Refused("--to: the port is no number from 1 to 65535")
        port = int(number)
    return host, port, f"{slash or '/'}{path}"


def _signed(claims: dict[str, Any], router: PluginSection) -> str:
    wanted = router.settings["signing_key"]
    if wanted is None:
        raise _Refused(f"[{router.section}] has no signing_key: name the KID of a private key in its `keys`")
    try:
        return make_token(claims, read_keys(router.settings["keys"])[wanted])
    except KeyError:
        raise _Refused(f"{router.settings['keys']} has no key {wanted!r} any more") from None
    except ValueError as error:
        raise _Refused(str(error)) from None


def _revoke(config: Config, arguments: argparse.Namespace) -> list[str]:
    """Revoke a link and return what is printed."""
    link = arguments.revoke
    if not 0 < len(link) <= 128 or not link.isascii() or not link.isprintable() or " " in link:
        raise _Refused("--revoke: this is no id of a link: --json shows it when a link is made")
    with _state(config, "revoked links") as store:
        expires = time.time() + LONGEST + 2 * LEEWAY  # no link is valid for longer
        store.put(REVOKED_SPACE, key_of(link), "", expires, False)
        selector = Selector(SelectorKind.LINK, link)
        store.tell(Command(CommandKind.KILL, reason="the link was revoked", selector=selector))
    return [json.dumps({"revoked": link})] if arguments.json else [f"revoked {link}"]


@contextmanager
def _state(config: Config, what: str) -> Iterator[SqliteStore]:
    """Open the database of the state.  Raises _Refused if there is none."""
    if config.state is None:
        raise _Refused(
            f"{what} are stored in the state, which is in the memory of the proxy: "
            f"write state = sqlite:PATH in [proxy] of {config.source}"
        )
    if not config.state.exists():  # a database of this user may not be writable for the proxy
        raise _Refused(f"{config.state} does not exist: start the proxy once, which creates it")
    store = SqliteStore(config.state, f"link-{secrets.token_hex(8)}", Times.of_this_machine())
    try:
        yield store
    finally:
        store.close()
