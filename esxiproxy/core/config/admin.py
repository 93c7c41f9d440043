"""The section [admin]: its keys, their checks, and the value that they make."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from esxiproxy.core.config.consistency import Conflict
from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_path import file_path, path_to_write
from esxiproxy.core.config.key import ADMIN, Key, Type, plain
from esxiproxy.core.config.listen_address import LONGEST_PATH, ListenAddress, listen_address
from esxiproxy.core.config.model import Admin, AdminAddress, ListenerTLS, manhole_socket
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.host_name import plain_host
from esxiproxy.core.session.connection_limits import ANONYMOUS_NAME

RUNTIME_FOLDER = Path("/run/esxiproxy")
"""The folder of the default socket, where it exists.  systemd creates it for the unit."""
SOCKET_NAME = "admin.sock"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""The names under which ``listen`` is reached without the key ``names``."""
_WHO = re.compile(r"@?[^\s,@\x00-\x1f\x7f][^,\x00-\x1f\x7f]{0,255}")


def who(text: str) -> tuple[str, ...]:
    """Return names of users, and of groups as ``@NAME``, that are separated by commas.  Raise BadValue."""
    found = tuple(part.strip() for part in text.split(","))
    for each in found:
        if not _WHO.fullmatch(each):
            raise BadValue(f"{shown(each)} is no name of a user, and no group as in @operators")
    return found


def host_names(text: str) -> tuple[str, ...]:
    """Return host names and IP addresses in the form of a Host field, in lower case.  Raise BadValue."""
    return tuple(_host_name(part.strip()) for part in text.split(","))


def _host_name(text: str) -> str:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        pass
    else:
        return f"[{address}]" if address.version == 6 else str(address)
    try:
        return plain_host(text)
    except ValueError as error:
        raise BadValue(f"{shown(text)}: {error}") from None


def socket_path(text: str, folder: Path) -> Path:
    """Return the path of a unix socket.  Raise BadValue when it is too long or its folder is missing."""
    found = Path(os.path.normpath(file_path(text, folder)))
    if len(os.fsencode(found)) > LONGEST_PATH:
        raise BadValue(f"the path of a unix socket has at most {LONGEST_PATH} bytes: {found}")
    if not found.parent.is_dir():
        raise BadValue(f"no such folder: {found.parent}")
    return found


def group(text: str) -> str:
    """Return the name of a group of this machine.  Raise BadValue if there is none."""
    try:
        return grp.getgrnam(text).gr_name
    except (KeyError, ValueError):
        raise BadValue(f"{shown(text)} is no group of this machine") from None


ADMIN_KEYS = (
    Key(
        "socket",
        ADMIN,
        Type("file", socket_path),
        None,
        "Unix socket of the terminal commands. Everybody who may open it is an operator. The default is "
        f"`{RUNTIME_FOLDER}/{SOCKET_NAME}` where that folder exists, and else `{SOCKET_NAME}` beside the "
        "configuration.",
    ),
    Key(
        "socket_group",
        ADMIN,
        plain("name of a group", group),
        None,
        "Group whose members may open `socket` too, which then has the mode 0660 instead of 0600.",
    ),
    Key(
        "listen",
        ADMIN,
        Type("address", listen_address),
        None,
        "Address of the page and of the API for people, as in `listen` of a listener. Without an "
        "authenticator it takes a loopback address, whose visitors may see everything and do nothing.",
    ),
    Key(
        "probe_listen",
        ADMIN,
        Type("address", listen_address),
        None,
        "Address that serves `/healthz`, `/readyz` and `/metrics` without a login, and nothing else.",
    ),
    Key(
        "viewers",
        ADMIN,
        plain("names", who),
        None,
        "Users who may see everything on `listen`, separated by commas; `@NAME` is a group.",
    ),
    Key(
        "operators",
        ADMIN,
        plain("names", who),
        None,
        "Users who may also act on `listen`, separated by commas; `@NAME` is a group.",
    ),
    Key(
        "names",
        ADMIN,
        plain("host names", host_names),
        None,
        "Host names and IP addresses under which `listen` is reached, separated by commas. A request with "
        "another name in its Host field is refused. The default is those of loopback.",
    ),
    Key(
        "audit_log",
        ADMIN,
        Type("file", path_to_write),
        None,
        "File with JSON lines for each action of an operator. It is opened for each line. An action that "
        "cannot be written is refused. Without it, actions are written to twistd's own log.",
    ),
)


def admin_conflicts(admin: SectionValues) -> Iterator[Conflict]:
    """Yield the problems of keys in [admin]."""
    present = admin.present
    for key, needed in (("certificate", "private_key"), ("private_key", "certificate")):
        if admin.has(key) and needed not in present:
            yield key, f"needs a {needed} in the same section"
    for key in ("certificate", "authenticator", "viewers", "operators", "names"):
        if admin.has(key) and "listen" not in present:
            yield key, "needs a listen in the same section: the unix socket is protected by its file mode"
    for key in ("viewers", "operators"):
        if admin.has(key) and "authenticator" not in present:
            yield key, "needs an authenticator in the same section, which knows who somebody is"
    listen: ListenAddress | None = admin["listen"]
    if listen is not None and not _is_local(listen):
        if "authenticator" not in present:
            yield (
                "listen",
                "needs an authenticator: without one it takes a loopback address, as in 127.0.0.1:9180",
            )
        if "names" not in present:
            yield "listen", "needs names: the host names under which people reach this address"
    probe: ListenAddress | None = admin["probe_listen"]
    if listen is not None and probe is not None and probe.overlaps(listen):
        yield "probe_listen", f"{probe.text} is the address of listen"


def manhole_conflicts(admin: Admin) -> Iterator[Conflict]:
    """Yield the problems of [admin] with a manhole, whose unix socket is beside that of [admin]."""
    path = manhole_socket(admin.socket)
    if len(os.fsencode(path)) > LONGEST_PATH:
        yield "socket", f"the socket of the manhole beside it has at most {LONGEST_PATH} bytes: {path}"


def admin_warnings(admin: SectionValues, authenticators: Sequence[PluginSection]) -> Iterator[Conflict]:
    """Yield warnings for keys of [admin] that are valid but of no use, or unsafe.

    The type of an authenticator may say why it has no users here.
    """
    for each in authenticators:
        if (why := getattr(each.type, "unknown_on_admin", None)) is not None:
            yield "authenticator", f"{each.settings.name}: {why}"
    if admin.has("authenticator") and not {"viewers", "operators"} & admin.present:
        yield "authenticator", "nobody may see anything on listen: set viewers or operators"
    named = admin["authenticator"] if admin.has("authenticator") and "authenticator" in admin.values else ()
    for key, right in (("viewers", "a viewer"), ("operators", "an operator")):
        if ANONYMOUS_NAME in named and ANONYMOUS_NAME in (admin[key] or ()):
            yield key, f"everybody who reaches listen is {right}: remove {ANONYMOUS_NAME} from this key"
    listen: ListenAddress | None = admin["listen"]
    if listen is not None and not _is_local(listen) and "certificate" not in admin.present:
        yield "listen", "has no certificate: passwords and sessions pass in plain text"


def admin_of(given: SectionValues, folder: Path, authenticators: tuple[PluginSection, ...]) -> Admin:
    """Return the value of the section [admin]."""
    certificate, private_key = given["certificate"], given["private_key"]
    tls = None if certificate is None or private_key is None else ListenerTLS(certificate, private_key)
    return Admin(
        socket=given["socket"] or default_socket(folder),
        socket_group=given["socket_group"],
        listen=_address(given["listen"]),
        tls=tls,
        authenticators=authenticators,
        viewers=frozenset(given["viewers"] or ()),
        operators=frozenset(given["operators"] or ()),
        names=frozenset(given["names"] or LOOPBACK_NAMES),
        probe_listen=_address(given["probe_listen"]),
        audit_log=given["audit_log"],
    )


def default_socket(folder: Path) -> Path:
    """Return the path of the socket of a configuration in this folder that does not name one."""
    return (RUNTIME_FOLDER if RUNTIME_FOLDER.is_dir() else folder) / SOCKET_NAME


def _address(given: ListenAddress | None) -> AdminAddress | None:
    return None if given is None else AdminAddress(given.endpoint, given.text)


def _is_local(address: ListenAddress) -> bool:
    """Return whether only processes of this machine reach an address."""
    return address.path is not None or (address.ip is not None and address.ip.is_loopback)
