"""The keys of the manhole, as OpenSSH keeps them: who may come in, and the host's own."""

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
    """A key file cannot be used, and why."""


def fingerprint(key: Key) -> str:
    """``SHA256:...``, as ``ssh-keygen -l`` shows it."""
    digest: str = key.fingerprint(FingerprintFormats.SHA256_BASE64)
    return f"SHA256:{digest.rstrip('=')}"


@implementer(IAuthorizedKeysDB)
class AuthorizedKeys:
    """The keys of one file in the format of ``authorized_keys``, read anew at every login.

    A key with options in front of it (``from=``, ``command=``) is not admitted: we could not keep to them.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Key]:
        """The keys in the file.  Raises KeyFileError when it has none, or when strangers may write to it."""
        try:
            with open(self._path, "rb") as source:
                mode = os.fstat(source.fileno()).st_mode
                lines = source.read().splitlines()
        except OSError as error:
            raise KeyFileError(f"{self._path}: {error.strerror}") from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise KeyFileError(f"{self._path}: others than its owner may write to it (chmod go-w)")
        keys, unread = [], []
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.strip().startswith(b"#"):
                key = _public_key(line.strip())
                keys.append(key) if key is not None else unread.append(number)
        if not keys:
            raise KeyFileError(f"{self._path}: no public key in it that can be read (options are not taken)")
        for number in unread:
            self._log.warn("{path}:{line}: this is no public key", path=str(self._path), line=number)
        return keys

    def getAuthorizedKeys(self, username: bytes) -> Iterable[Key]:
        """Every user name is as good as any other: the key says who it is."""
        try:
            return self.read()
        except KeyFileError as error:
            self._log.error("manhole: nobody comes in: {error}", error=error)
            return ()


def _public_key(line: bytes) -> Key | None:
    try:
        key: Key = Key.fromString(line)
    except Exception:  # Conch has no one class for what it cannot read
        return None
    return key if key.isPublic() else None


def host_key(path: Path) -> Key:
    """The key in the file; made there, for its owner alone, if there is none.  Raises KeyFileError."""
    try:
        if not path.exists():
            _make(path)
        with open(path, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            content = source.read()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise KeyFileError(f"{path}: others than its owner can read it: remove it, and a new one is made")
    try:
        key: Key = Key.fromString(content)
    except EncryptedKeyError as error:
        raise KeyFileError(f"{path}: has a passphrase, and nobody is there to type it") from error
    except (BadKeyError, ValueError, IndexError, AssertionError) as error:
        raise KeyFileError(f"{path}: no private key that can be read") from error
    if key.isPublic():
        raise KeyFileError(f"{path}: a public key; the private one is needed")
    return key


def _make(path: Path) -> None:
    """Whole or not at all, whoever else makes it at the same moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        new.unlink()  # left by a process of our number that was killed here
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
