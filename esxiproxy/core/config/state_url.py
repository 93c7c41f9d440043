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
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SCHEMES = ("redis", "rediss")
_SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_MAX_SENTINELS = 16
_MAX_DATABASE = 65535


class StateDown(Enum):
    """The treatment of new consoles while Redis is away."""

    REFUSE = "refuse"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True)
class SentinelService:
    """A service with the hosts and ports of the Sentinels that know the address of its primary.

    The password of the Sentinels stands in ``password_file`` only.
    """

    name: str
    sentinels: tuple[tuple[str, int], ...]
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A database of a Redis server, or of the primary of a ``service``, which has no host and port here.

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
    service: SentinelService | None = None

    def __str__(self) -> str:
        scheme = "rediss" if self.secure else "redis"
        user = f"{self.user}@" if self.user else ""
        if self.service is None:
            return f"{scheme}://{user}{_authority(self.host, self.port)}/{self.database}"
        sentinels = ",".join(_authority(*place) for place in self.service.sentinels)
        return f"{scheme}+sentinel://{user}{sentinels}/{self.service.name}/{self.database}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def state(text: str, folder: Path) -> Path | RedisAddress | None:
    """Return the file in ``sqlite:PATH``, the address of Redis in a URL, or None for ``memory:``.

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
    if scheme in _SENTINEL_SCHEMES and place.startswith("//"):
        return _sentinel(scheme, place[2:])
    if text != "memory:":
        said = "a URL" if "@" in text else shown(text)  # a URL may have a password
        raise BadValue(f"{said} is not memory:, sqlite:PATH, redis://HOST or redis+sentinel://HOST/SERVICE")
    return None


def _redis(scheme: str, rest: str) -> RedisAddress:
    user, place = _user_of(rest)
    authority, _slash, number = place.partition("/")
    database = _database(number, f"{scheme}://HOST/0")
    host, port = host_and_port(authority, scheme, authority)
    return RedisAddress(host, port, database, user, scheme == "rediss")


def _sentinel(scheme: str, rest: str) -> RedisAddress:
    user, place = _user_of(rest)
    authorities, _slash, path = place.partition("/")
    name, _slash, number = path.partition("/")
    if not _SERVICE.fullmatch(name):
        raise BadValue(f"has no name of a service behind its Sentinels, as in {scheme}://HOST/mymaster")
    database = _database(number, f"{scheme}://HOST/{name}/0")
    found = [host_and_port(text, scheme, text) for text in authorities.split(",", _MAX_SENTINELS)]
    if len(found) > _MAX_SENTINELS:
        raise BadValue(f"has more than {_MAX_SENTINELS} Sentinels")
    if len(set(found)) < len(found):
        raise BadValue("has a Sentinel twice")
    service = SentinelService(name, tuple(found))
    return RedisAddress("", 0, database, user, scheme == "rediss+sentinel", service=service)


def _user_of(rest: str) -> tuple[str, str]:
    """Return the user of a URL and the rest behind it.  Raise BadValue, also for a password."""
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
    return user, place


def _database(number: str, example: str) -> int:
    if number and (not re.fullmatch("[0-9]{1,5}", number) or int(number) > _MAX_DATABASE):
        raise BadValue(f"{shown(number)} is no number of a database, as in {example}")
    return int(number or 0)
