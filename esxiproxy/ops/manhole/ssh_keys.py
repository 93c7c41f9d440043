"""The key files of the manhole, in OpenSSH's formats: authorized keys and the host key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.checkers import IAuthorizedKeysDB
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, FingerprintFormats, Key
from twisted.logger import Logger
from zope.interface import implementer


class KeyFileError(Exception):
    """A key file cannot be used."""


def fingerprint(key: Key) -> str:
    """Return the fingerprint of a key as ``ssh-keygen -l`` shows it, ``SHA256:...``."""
    digest: str = key.fingerprint(FingerprintFormats.SHA256_BASE64)
    return f"SHA256:{digest.rstrip('=')}"


@implementer(IAuthorizedKeysDB)
class AuthorizedKeys:
    """The keys of a file in the format of ``authorized_keys``, which is read at every login.

    A key with options (``from=``, ``command=``) is ignored, since the options would not be enforced.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Key]:
        """Return the keys in the file.

        Raises KeyFileError when the file has no key, or when others than its owner can write to it.
        """
        try:
            with open(self._path, "rb") as source:
                mode = os.fstat(source.fileno()).st_mode
                lines = source.read().splitlines()
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise KeyFileError(f"{self._path}: users other than its owner can write to it; run chmod go-w")
        keys, unread = [], []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.strip().startswith(b"#"):
                key = _public_key(line.strip())
                keys.append(key) if key is not None else unread.append(number)
        if not keys:
            raise KeyFileError(f"{self._path}: has no valid public key (keys with options are ignored)")
        for number in unread:
            self._log.warn(
                "manhole: {path}:{line}: not a valid public key, the line is ignored",
                path=str(self._path),
                line=number,
            )
        return keys

    def getAuthorizedKeys(self, username: bytes) -> Iterable[Key]:
        """Return the keys for any user name, since the key alone identifies the operator."""
        try:
            return self.read()
        except KeyFileError as error:
            self._log.error("manhole: login refused, the keys cannot be read: {error}", error=error)
            return ()


def _public_key(line: bytes) -> Key | None:
    try:
        key: Key = Key.fromString(line)
    except Exception:  # Conch raises errors of several classes
        return None
    return key if key.isPublic() else None


def host_key(path: Path) -> Key:
    """Return the key in the file, which is created with mode 0600 if it is missing.  Raises KeyFileError."""
    try:
        if not path.exists():
            _make(path)
        with open(path, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            content = source.read()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: users other than its owner can read it; remove it, and the next start creates a new key"
        )
    try:
        key: Key = Key.fromString(content)
    except EncryptedKeyError as error:
        raise KeyFileError(f"{path}: the key has a passphrase; a host key must have none") from error
    except (BadKeyError, ValueError, IndexError, AssertionError) as error:
        raise KeyFileError(f"{path}: not a valid private key") from error
    if key.isPublic():
        raise KeyFileError(f"{path}: is a public key, but the private key is needed")
    return key


def _make(path: Path) -> None:
    """Create the file atomically, also when another process creates it at the same time."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        new.unlink()  # left by a process with the same PID that was killed
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(file, "wb") as target:
            os.fchmod(target.fileno(), 0o600)
            target.write(Key(Ed25519PrivateKey.generate()).toString("openssh", comment="esxiproxy manhole"))
            target.flush()
            os.fsync(target.fileno())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink()
