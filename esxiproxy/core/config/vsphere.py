"""The sections [vsphere NAME]: their keys, their checks, and the values that they make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esxiproxy.core.config.consistency import Conflict, verify_conflicts
from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_content import file_content
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.config.key import VSPHERE, Key, Type, plain
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.config.url import host_and_port
from esxiproxy.core.config.values import yes_or_no
from esxiproxy.core.routing import Identity, Upstream, Verify

_MAX_PASSWORD_FILE = 1 << 20
_MAX_PASSWORD = 4096
_URL = re.compile(r"https://([^/?#@]*)/?", re.IGNORECASE)
_USER = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


@dataclass(frozen=True, slots=True)
class VSphere:
    """A vCenter, or an ESXi host without one, whose machines have consoles.

    ``host`` and ``port`` are those of its API.  The first line of ``password_file`` is the password of
    ``user``.  ``identity`` is the rule for its certificate, and ``tags`` is whether the tags of machines are
    read.
    """

    name: str
    host: str
    port: int
    user: str
    password_file: Path
    identity: Identity
    tags: bool = False

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}" if self.port == 443 else f"https://{host}:{self.port}"

    @property
    def upstream(self) -> Upstream:
        """The server as an upstream, whose certificate other parts check."""
        identity = self.identity
        return Upstream(self.name, self.host, self.port, True, identity.verify, identity.pins, identity.ca)

    def password(self) -> str:
        """Return the password, which is read from its file.  Raise BadValue."""
        return password_in(self.password_file)


def password_in(path: Path) -> str:
    """Return the first line of a file, which is a password.  Raise BadValue."""
    line = file_content(path, _MAX_PASSWORD_FILE).partition(b"\n")[0].rstrip(b"\r")
    if not line or len(line) > _MAX_PASSWORD:
        raise BadValue(f"has no password in its first line: {path}")
    try:
        password = line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadValue(f"is no text in UTF-8: {path}") from None
    if any(character < " " for character in password):  # XML 1.0 cannot carry them
        raise BadValue(f"has a control character in its first line: {path}")
    return password


def vsphere_url(text: str) -> tuple[str, int]:
    """Return the host and the port in ``https://HOST[:PORT]``.  Raise BadValue."""
    found = _URL.fullmatch(text)
    if found is None:
        raise BadValue(f"{shown(text)} is no URL of vCenter or of a host: write https://vcenter.example.com")
    return host_and_port(text, "https", found[1])


def account(text: str) -> str:
    """Return the name of a user at vCenter or at a host.  Raise BadValue."""
    if not _USER.fullmatch(text):
        raise BadValue(f"{shown(text)} is no name of a user: 1 to 256 characters, no control characters")
    return text


def password_file(text: str, folder: Path) -> Path:
    """Return the path of a file with a password.  Raise BadValue when it cannot be used."""
    found = file_path(text, folder)
    password_in(found)
    return found


VSPHERE_KEYS = (
    Key(
        "url",
        VSPHERE,
        plain("URL", vsphere_url),
        None,
        "Address of vCenter, or of an ESXi host without one, `https://HOST[:PORT]`. Its certificate is "
        "verified by `verify`, `pin` and `ca`, as that of an upstream.",
        required=True,
    ),
    Key(
        "user",
        VSPHERE,
        plain("name", account),
        None,
        "User of the proxy at vCenter or at the host, as in `svc-console@vsphere.local`. Its role needs "
        "`VirtualMachine.Interact.ConsoleInteract` and read access to the machines, and "
        "`VirtualMachine.Interact.PowerOn` for `may = power`.",
        required=True,
    ),
    Key(
        "password_file",
        VSPHERE,
        Type("file", password_file),
        None,
        "File with the password in its first line. It is read for each login. After a wrong password there "
        "is no further login until the password in the file has changed, or until a reload.",
        required=True,
    ),
    Key(
        "tags",
        VSPHERE,
        plain("`yes` or `no`", yes_or_no),
        "no",
        "Whether the tags of machines are read from vCenter every minute, for rules `tag:NAME`. They are "
        "read over REST, in a second login of the same user.",
    ),
)


def vsphere_conflicts(section: SectionValues) -> Iterator[Conflict]:
    """Yield the problems of keys in a section [vsphere NAME]."""
    if not section.is_invalid("verify"):
        yield from verify_conflicts(section)


def vsphere_warnings(section: SectionValues) -> Iterator[Conflict]:
    """Yield a warning for a password that is sent to a server of any certificate."""
    if not section.is_invalid("verify") and section["verify"] is Verify.NONE:
        yield "verify", "the password is sent to every server that answers: write system, ca or pin"


def vsphere_of(given: SectionValues) -> VSphere:
    """Return the value of a section [vsphere NAME] that is complete."""
    host, port = given["url"]
    return VSphere(
        name=given.name,
        host=host,
        port=port,
        user=given["user"],
        password_file=given["password_file"],
        identity=Identity(given["verify"], given["pin"] or (), None, given["ca"]),
        tags=given["tags"],
    )
