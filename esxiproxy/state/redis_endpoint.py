"""The endpoint of a Redis server, its TLS, and the file of its password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory

from esxiproxy.core.bounded_file import read_file
from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.errors import StateUnavailable

_MAX_PASSWORD = 4096
_MAX_FILE = 16 << 20
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class BadFile(Exception):
    """The file of the password or of the authorities cannot be used."""


def read_password(path: Path | None, key: str = "state_password_file") -> str:
    """Return the first line of a password's file, or an empty text without one.  Raises BadFile."""
    if path is None:
        return ""
    data = _read(path, key)
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not line or len(line) > _MAX_PASSWORD:
        raise BadFile(f"{key}: {path} has no password in its first line")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFile(f"{key}: {path} is no text in UTF-8") from None


class RedisEndpoint:
    """The place of a server, to which connections are made, with TLS if there is a ``creator``."""

    def __init__(self, endpoint: Any, creator: Any, reactor: Any) -> None:
        self._endpoint = endpoint
        self._creator = creator
        self._reactor = reactor

    def connect(self, factory: Any) -> Any:
        """Return a Deferred of the protocol when its TCP connection is made."""
        factory.noisy = False
        if self._creator is None:
            return self._endpoint.connect(factory)
        # wrapClientTLS has no clock: it takes that of the default reactor.
        tls = TLSMemoryBIOFactory(self._creator, True, factory, clock=self._reactor)
        tls.noisy = False
        return self._endpoint.connect(tls).addCallback(lambda wrapping: wrapping.wrappedProtocol)


def endpoint_of(address: RedisAddress, host: str, port: int, reactor: Any) -> RedisEndpoint:
    """Return the endpoint of a server or Sentinel, with verified TLS if the address is secure.

    Raises BadFile.
    """
    endpoint = HostnameEndpoint(reactor, host, port)
    if not address.secure:
        return RedisEndpoint(endpoint, None, reactor)
    trust: Any = platformTrust() if address.ca is None else _authorities(address.ca)  # type: ignore[no-untyped-call]
    return RedisEndpoint(endpoint, optionsForClientTLS(host, trustRoot=trust), reactor)


def check_files(address: RedisAddress) -> str | None:
    """Return what is wrong with the files of an address, or None."""
    try:
        read_password(address.password_file)
        if address.service is not None:
            read_password(address.service.password_file, "state_sentinel_password_file")
        if address.ca is not None:
            _authorities(address.ca)
    except BadFile as error:
        return str(error)
    return None


def described(error: BaseException) -> str:
    """Return the reason of a failed connection, without the texts of secrets."""
    if isinstance(error, StateUnavailable):
        return error.detail or str(error)
    if isinstance(error, BadFile):
        return str(error)
    reasons = getattr(error, "reasons", None) or getattr(error, "args", ())
    return f"{type(error).__name__}: {reasons[0] if reasons else error}"


def _authorities(path: Path) -> Any:
    data = _read(path, "state_ca")
    try:
        found = [Certificate.loadPEM(block[block.find(_BEGIN) :] + _END) for block in data.split(_END)[:-1]]
    except (crypto.Error, ValueError):
        raise BadFile(f"state_ca: {path} has a certificate that cannot be read") from None
    if not found:
        raise BadFile(f"state_ca: {path} has no certificate")
    return trustRootFromCertificates(found)  # type: ignore[no-untyped-call]


def _read(path: Path, key: str) -> bytes:
    try:
        return read_file(path, _MAX_FILE)
    except OSError as error:
        raise BadFile(f"{key}: {path}: {error.strerror}") from None
