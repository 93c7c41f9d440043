"""``esxiproxy link``: makes or revokes a link of a router of the type ``links``."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from esxiproxy.app.preflight import load
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.loader import Config, ConfigError
from esxiproxy.core.config.quantities import duration
from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.link_keys import InvalidKeys
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.routers.link_orders import (
    LinkOrder,
    LinkRefused,
    is_link_id,
    link_router,
    make_link,
    revoked_until,
)
from esxiproxy.routers.links import REVOKED_SPACE
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times

NAME = "link"
HELP = "make a link to a console, or revoke one"

_DESCRIPTION = """\
Makes a link of a router of the type `links` and prints its URL, which is under the
public_url of the listener that names the router. Opaque links and --revoke need
`state = sqlite:PATH` in the configuration; `esxiproxy links --revoke` asks the
running proxy and needs none.
"""
_EPILOG = """\
A link works once unless --reuse or --many is given. Other users of this machine can see
the arguments of a command: with `--to -` the host is read from standard input.

exit status: 0 the link was made or revoked, 1 it was not, 2 wrong usage
"""


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
    parser.add_argument(
        "--vmrc", action="store_true", help="print a vmrc:// URL for VMware Remote Console newer than 11"
    )
    parser.add_argument(
        "--vmx", metavar="PATH", help="with --vmrc: the path of the machine's file, as in a ticket's cfgFile"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the id of the link")


def run(arguments: argparse.Namespace) -> int:
    """Make or revoke a link; return 0 on success, else 1."""
    try:
        config = load(arguments.config)
        link_router(config, arguments.router)
        revokes = arguments.revoke is not None
        lines = _revoke(config, arguments) if revokes else _make(config, arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (LinkRefused, InvalidKeys) as error:
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


def _make(config: Config, arguments: argparse.Namespace) -> list[str]:
    """Make a link and return what is printed."""
    to = sys.stdin.readline().strip() if arguments.to == "-" else arguments.to
    order = LinkOrder(
        arguments.router,
        to,
        arguments.ttl,
        arguments.reuse,
        arguments.many,
        arguments.subject,
        tuple(arguments.pin or ()),
        arguments.net,
        arguments.listener,
        arguments.vmrc,
        arguments.vmx,
    )
    made = make_link(config, order)
    if (stored := made.stored) is not None:
        what = f"[router {order.router}] has opaque = yes: the claims of its links"
        with _state(config, what, "make the link on the admin page or with the admin API") as store:
            store.put(stored.space, stored.key, stored.value, stored.expires, True)
    if arguments.json:
        named = {made.kind: made.field} if made.field else {}
        if made.vmrc is not None:
            named["vmrc"] = made.vmrc
        return [json.dumps({"url": made.url, "id": made.id, "expires": made.expires, **named})]
    return [made.vmrc or made.url, *([f"{made.kind}: {made.field}"] if made.field else [])]


def _revoke(config: Config, arguments: argparse.Namespace) -> list[str]:
    """Revoke a link and return what is printed."""
    link = arguments.revoke
    if not is_link_id(link):
        raise LinkRefused("--revoke: this is no id of a link: --json shows it when a link is made")
    with _state(config, "revoked links", "esxiproxy links --revoke ID --reason TEXT asks the proxy") as store:
        store.put(REVOKED_SPACE, key_of(link), link, revoked_until(), False)
        selector = Selector(SelectorKind.LINK, link)
        store.tell(Command(CommandKind.KILL, reason="the link was revoked", selector=selector))
    return [json.dumps({"revoked": link})] if arguments.json else [f"revoked {link}"]


@contextmanager
def _state(config: Config, what: str, instead: str) -> Iterator[SqliteStore]:
    """Open the database of the state.  Raises LinkRefused if there is none, with what to do ``instead``."""
    if config.state is None:
        raise LinkRefused(
            f"{what} are stored in the state, which is in the memory of the proxy: "
            f"write state = sqlite:PATH in [proxy] of {config.source}"
        )
    if isinstance(config.state, RedisAddress):
        raise LinkRefused(f"{what} are stored in Redis, which this command does not connect to: {instead}")
    if not config.state.exists():  # a database of this user may not be writable for the proxy
        raise LinkRefused(f"{config.state} does not exist: start the proxy once, which creates it")
    store = SqliteStore(config.state, f"link-{secrets.token_hex(8)}", Times.of_this_machine())
    try:
        yield store
    finally:
        store.close()
