"""The files and folders that a configuration names, and the use that the proxy has for each."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from esxiproxy.core.config.key import PRIVATE_KEY, SectionKind
from esxiproxy.core.config.model import Config, ListenerTLS
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.section import SectionValues, find_key
from esxiproxy.core.routing import Verify

MAX_FILES = 1000
"""Maximum number of files in a folder that are checked."""
_MAX_CONTENT = 1 << 20


class FileUse(Enum):
    """The use of a file by the proxy."""

    READ = "read"
    APPEND = "append"
    """The file is created if it is missing."""
    DATABASE = "database"
    """The file is created if it is missing, and others are created beside it while it is used."""
    HOST_KEY = "host key"
    """The file is created if it is missing, and then only its owner may read it."""
    SOCKET = "socket"
    """A unix socket that the proxy creates in its folder, in place of one that was left."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a key of a section names.  ``is_secret`` is whether only the proxy should read it."""

    section: str
    key: str
    path: Path
    use: FileUse = FileUse.READ
    is_secret: bool = False


_SECRET_FILES = frozenset(
    {
        (SectionKind.AUTHENTICATOR, "oidc", "client_secret_file"),
        (SectionKind.AUTHENTICATOR, "htpasswd", "file"),
        (SectionKind.ROUTER, "tokens", "source"),
    }
)
"""Keys of types whose files are secret whatever their content is: password hashes and tokens."""


def files_of(config: Config) -> Iterator[NamedFile]:
    """Yield the files of a configuration, its own included, each once."""
    seen = set()
    for file in _files(config):
        if (file.path, file.use) not in seen:
            seen.add((file.path, file.use))
            yield file


def _files(config: Config) -> Iterator[NamedFile]:
    """Yield the files that the configuration names."""
    yield NamedFile("proxy", "", config.source.absolute())
    if config.manhole is not None:
        yield NamedFile("proxy", "manhole_keys", config.manhole.keys)
        yield NamedFile("proxy", "manhole_host_key", config.manhole.host_key, FileUse.HOST_KEY, True)
    if isinstance(config.state, Path):
        yield NamedFile("proxy", "state", config.state, FileUse.DATABASE, True)
    elif config.state is not None:
        if config.state.password_file is not None:
            yield NamedFile("proxy", "state_password_file", config.state.password_file, is_secret=True)
        service = config.state.service
        if service is not None and service.password_file is not None:
            yield NamedFile("proxy", "state_sentinel_password_file", service.password_file, is_secret=True)
        if config.state.ca is not None:
            yield NamedFile("proxy", "state_ca", config.state.ca)
    if config.access_log is not None and isinstance(config.access_log.to, Path):
        yield NamedFile("proxy", "access_log", config.access_log.to, FileUse.APPEND)
    for listener in config.listeners:
        yield from _of_tls(f"listener {listener.name}", listener.tls)
    if config.admin is not None:
        yield NamedFile("admin", "socket", config.admin.socket, FileUse.SOCKET)
        if config.admin.audit_log is not None:
            yield NamedFile("admin", "audit_log", config.admin.audit_log, FileUse.APPEND)
        yield from _of_tls("admin", config.admin.tls)
    for name, upstream in config.upstreams.items():
        if upstream.ca is not None and upstream.verify is Verify.CA:
            yield NamedFile(f"upstream {name}", "ca", upstream.ca)
    for name, vsphere in config.vspheres.items():
        yield NamedFile(f"vsphere {name}", "password_file", vsphere.password_file, is_secret=True)
        if vsphere.identity.ca is not None:
            yield NamedFile(f"vsphere {name}", "ca", vsphere.identity.ca)
    for plugin in (*config.routers.values(), *config.authenticators.values()):
        yield from _of_plugin(plugin)


def _of_tls(section: str, tls: ListenerTLS | None) -> Iterator[NamedFile]:
    if tls is None:
        return
    yield NamedFile(section, "private_key", tls.private_key, is_secret=True)
    yield NamedFile(section, "certificate", tls.certificate, is_secret=holds_key(tls.certificate))
    if tls.client_ca is not None:
        yield NamedFile(section, "client_ca", tls.client_ca)


def _of_plugin(plugin: PluginSection) -> Iterator[NamedFile]:
    """Yield the files of a router or an authenticator: the values of its keys that are paths."""
    settings = plugin.settings
    for key, value in settings.values.items():
        paths = value if isinstance(value, tuple) else (value,)
        for path in paths:
            if isinstance(path, Path) and not stat.S_ISSOCK(_mode_of(path)):
                for file in _contained(path):
                    secret = _is_secret(plugin.type.name, settings, key) or holds_key(file)
                    yield NamedFile(plugin.section, key, file, is_secret=secret)


def _is_secret(type_name: str, settings: SectionValues, key: str) -> bool:
    known = find_key(settings.keys, key)
    is_private = known is not None and known.type is PRIVATE_KEY
    return is_private or (settings.kind, type_name, key) in _SECRET_FILES


def _contained(path: Path) -> Iterator[Path]:
    """Yield a file, or a folder and the files in it; nothing if it does not exist.

    A type reports a file that is missing.
    """
    mode = _mode_of(path)
    if mode:
        yield path
    if not stat.S_ISDIR(mode):
        return
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError:  # the folder has a finding of its own
        return
    for name in names[:MAX_FILES]:
        if stat.S_ISREG(_mode_of(path / name)):
            yield path / name


def _mode_of(path: Path) -> int:
    """Return the mode of a file, 0 if it does not exist or cannot be reached."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # a NUL in the name
        return 0


def holds_key(path: Path) -> bool:
    """Return whether a file has a private or secret key: PEM, a JWK Set, or a file of an HMAC secret."""
    if not stat.S_ISREG(_mode_of(path)):
        return False
    try:
        with path.open("rb") as source:
            content = source.read(_MAX_CONTENT)
    except OSError:
        return False
    if b"PRIVATE KEY-----" in content or path.suffix == ".key":
        return True
    return content.lstrip()[:1] == b"{" and _has_private_jwk(content)


def _has_private_jwk(content: bytes) -> bool:
    """Return whether a JWK Set has a private key (``d``) or a secret one (``k``, RFC 7518 6)."""
    try:
        keys: Any = json.loads(content).get("keys")
    except (ValueError, AttributeError, RecursionError):
        return False
    return isinstance(keys, list) and any(isinstance(key, dict) and key.keys() & {"d", "k"} for key in keys)
