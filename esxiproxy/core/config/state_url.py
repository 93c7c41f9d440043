"""The key ``state``: where the processes keep what they share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.config.url import host_and_port

_USER = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SCHEMES = ("redis", "rediss")
_MAX_DATABASE = 65535


class StateDown(Enum):
    """The treatment of new consoles while Redis is away."""

    REFUSE = "refuse"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A database of a Redis server.

    ``secure`` is whether the connection uses TLS, and ``ca`` the file of the authorities that may have signed
    the server's certificate, None for those of the system.  The password stands in ``password_file`` only,
    which is read for each connection.  All keys in the database begin with ``prefix``.
    """

    host: str
    port: int = 6379
    database: int = 0
    user: str = ""
    secure: bool = False
    password_file: Path | None = None
    ca: Path | None = None
    prefix: str = "esxiproxy"
    when_down: StateDown = StateDown.REFUSE

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{'rediss' if self.secure else 'redis'}://{user}{host}:{self.port}/{self.database}"


def state(text: str, folder: Path) -> Path | RedisAddress | None:
    """Return the file in ``sqlite:PATH``, the address in ``redis://`` or None for ``memory:``.

    Raises BadValue.
    """
    scheme, _colon, place = text.partition(":")
    if scheme == "sqlite" and place:
        path = file_path(place, folder)
        if not path.parent.is_dir():
            raise BadValue(f"no such folder: {Path(place).parent}")
        return path
    if scheme in _SCHEMES and place.startswith("//"):
        return _redis(scheme, place[2:])
    if text != "memory:":
        said = "a URL" if "@" in text else shown(text)  # a URL may have a password
        raise BadValue(f"{said} is not memory:, sqlite:PATH, redis://HOST or rediss://HOST")
    return None


def _redis(scheme: str, rest: str) -> RedisAddress:
    before, at, place = rest.rpartition("@")
    user, colon, _password = before.partition(":")
    if colon:
        raise BadValue(
            "has a password, which the configuration and its backups would show: write the password into a "
            "file, and name it as state_password_file"
        )
    if at and not _USER.fullmatch(user):
        raise BadValue("has a user of other characters than letters, digits and ._~-")
    if "?" in place or "#" in place:
        raise BadValue("has a query or a fragment: end after the number of the database")
    authority, _slash, number = place.partition("/")
    if number and (not re.fullmatch("[0-9]{1,5}", number) or int(number) > _MAX_DATABASE):
        raise BadValue(f"{shown(number)} is no number of a database, as in {scheme}://HOST/0")
    host, port = host_and_port(authority, scheme, authority)
    return RedisAddress(host, port, int(number or 0), user, scheme == "rediss")
