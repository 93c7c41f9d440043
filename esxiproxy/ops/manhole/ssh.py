"""The manhole's SSH server: logins with public keys only, session channels only, no forwarding."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from twisted.conch.avatar import ConchUser
from twisted.conch.checkers import SSHPublicKeyChecker
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.coroutines import awaited
from esxiproxy.ops.manhole.commands import CommandsFor
from esxiproxy.ops.manhole.messages import CLOSE_TIMEOUT, PROCESS_ENDS
from esxiproxy.ops.manhole.ssh_channel import Channel
from esxiproxy.ops.manhole.ssh_keys import AuthorizedKeys, fingerprint

_SIGNATURES = (
    b"ssh-ed25519,sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,"
    b"ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"
)
"""The signature algorithms that an operator's key may use, without SHA-1."""
_ERRORS_ONLY = FilteringLogObserver(globalLogPublisher, [LogLevelFilterPredicate(LogLevel.error)])
_DISCARD = LogPublisher()
"""A publisher without observers: Conch logs each packet, and an ordinary disconnect as an error."""

LOGIN_TIMEOUT = 30.0
"""Seconds from the connection to a successful login."""
MAX_LOGIN_ATTEMPTS = 6


class LoginAudit(Protocol):
    """Records logins."""

    def logged_in(self, operator: str, source: str) -> Awaitable[str]:
        """Write that an operator logs in from an address, and return an id.  An exception refuses it."""

    def logged_out(self, identity: str, operator: str, source: str) -> Awaitable[None]:
        """Write that the connection of a login has ended.  Never fails."""


class KeyChecker(SSHPublicKeyChecker):
    """The checker of logins with an authorized key.

    An operator is named by the user name and the fingerprint of the key.
    """

    _log = Logger()

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes]:
        checking: Deferred[bytes] = super().requestAvatarId(credentials)
        return checking.addCallback(self._admitted, credentials)

    def _admitted(self, user: bytes, credentials: Any) -> bytes:
        who = f"{user.decode('utf-8', 'replace')!r} with key {fingerprint(Key.fromString(credentials.blob))}"
        self._log.info("manhole: {who} has logged in", who=who)
        return who.encode()


@implementer(IRealm)
class Realm:
    """The realm that makes the avatar of an operator who has logged in from the address ``source``.

    A login that cannot be written to the audit log is refused.
    """

    _log = Logger()

    def __init__(
        self,
        commands_for: CommandsFor,
        clock: IReactorTime,
        audit: LoginAudit | None = None,
        source: str = "",
    ) -> None:
        self._commands_for = commands_for
        self._clock = clock
        self._audit = audit
        self._source = source

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: Any, *interfaces: Any) -> Any:
        assert IConchUser in interfaces and isinstance(avatarId, bytes)
        operator = avatarId.decode()
        avatar = Operator(operator, self._commands_for, self._clock)
        if self._audit is None:
            return IConchUser, avatar, lambda: None
        return Deferred.fromCoroutine(self._audited(self._audit, operator, avatar))

    async def _audited(self, audit: LoginAudit, operator: str, avatar: Operator) -> tuple[Any, ...]:
        try:
            identity = await audit.logged_in(operator, self._source)
        except Exception as error:
            self._log.error(
                "manhole: login of {operator} refused, since it cannot be written to the audit log: {error}",
                operator=operator,
                error=error,
            )
            raise UnauthorizedLogin("the login cannot be written to the audit log") from None

        def log_out() -> None:
            Deferred.fromCoroutine(awaited(audit.logged_out(identity, operator, self._source)))

        return IConchUser, avatar, log_out


class Operator(ConchUser):
    """An operator who has logged in, without port forwarding, agent forwarding and subsystems."""

    def __init__(self, name: str, commands_for: CommandsFor, clock: IReactorTime) -> None:
        super().__init__()
        self.channelLookup[b"session"] = SSHSession
        self._name = name
        self._commands_for = commands_for
        self._clock = clock

    def __conform__(self, interface: Any) -> Channel | None:
        if interface is not ISession:
            return None
        return Channel(self._name, self._commands_for, self._clock)


class UserAuth(SSHUserAuthServer):
    """The login of a connection.

    The connection has the deadline, since Conch's own begins only after the key exchange.
    """

    _log = Logger(observer=_ERRORS_ONLY)
    attemptsBeforeDisconnect = MAX_LOGIN_ATTEMPTS
    transport: Any
    _has_stopped = False

    def serviceStarted(self) -> None:
        self.clock = self.transport.factory.clock
        super().serviceStarted()
        peer = self.transport.transport.getPeer()
        self.portal = self.transport.factory.portal_for(getattr(peer, "host", "unix"))

    def serviceStopped(self) -> None:
        self._has_stopped = True
        super().serviceStopped()

    def _cbFinishedAuth(self, result: Any) -> None:
        """Open the connection, or log out if it was lost while the login was written to the audit log."""
        if self._has_stopped:
            result[2]()
        else:
            super()._cbFinishedAuth(result)


class Channels(SSHConnection):
    """The channels of one connection."""

    _log = Logger(observer=_ERRORS_ONLY)


class ManholeConnection(SSHServerTransport):
    """One SSH connection, aborted when its login takes longer than ``LOGIN_TIMEOUT``."""

    _log = Logger(observer=_DISCARD)
    supportedKeyExchanges = [
        name
        for name in SSHServerTransport.supportedKeyExchanges
        if b"group" not in name  # these need SHA-1 or a file of moduli
    ]
    supportedCiphers = [name for name in SSHServerTransport.supportedCiphers if name.endswith(b"-ctr")]
    supportedMACs = [name for name in SSHServerTransport.supportedMACs if b"sha2" in name]
    supportedCompressions = [b"none"]
    ourVersionString = b"SSH-2.0-esxiproxy"
    factory: SSHListener
    transport: Any
    _deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._deadline = self.factory.clock.callLater(LOGIN_TIMEOUT, self._on_login_timeout)
        self.factory.connections.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.factory.connections.discard(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)

    def sendExtInfo(self, extensions: Any) -> None:
        """Send the signature algorithms that are accepted (RFC 8308 3.1).

        Conch would send only those of the host key's type, which keeps keys of other types out.
        """
        super().sendExtInfo([(b"server-sig-algs", _SIGNATURES)])

    def end(self) -> None:
        """Send why the connection ends, and close it; abort it when the client does not read."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.factory.clock.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)
        self.sendDisconnect(DISCONNECT_BY_APPLICATION, PROCESS_ENDS.encode())

    def _on_login_timeout(self) -> None:
        if not hasattr(self, "avatar"):
            self.transport.abortConnection()


class SSHListener(SSHFactory):
    """The factory of a manhole's SSH connections."""

    noisy = False
    protocol = ManholeConnection
    services = {b"ssh-userauth": UserAuth, b"ssh-connection": Channels}
    primes = None

    def __init__(
        self,
        keys: AuthorizedKeys,
        host_key: Key,
        commands_for: CommandsFor,
        clock: IReactorTime,
        audit: LoginAudit | None = None,
    ) -> None:
        kind = host_key.sshType()
        self.privateKeys = {kind: host_key}
        self.publicKeys = {kind: host_key.public()}
        self._keys = keys
        self._commands_for = commands_for
        self._audit = audit
        self.clock = clock
        self.portal = self.portal_for("")
        self.connections: set[ManholeConnection] = set()

    def portal_for(self, source: str) -> Portal:
        """Return the portal for the logins of a client with this address."""
        realm = Realm(self._commands_for, self.clock, self._audit, source)
        return Portal(realm, [KeyChecker(self._keys)])

    def buildProtocol(self, addr: Any) -> Any:
        """Make a connection, without Conch's warning about missing moduli, which are not needed."""
        connection = self.protocol()
        connection.factory = self
        connection.supportedPublicKeys = list(self.privateKeys)
        return connection

    def end_all(self) -> None:
        """End all connections with a sentence for their operators."""
        for connection in list(self.connections):
            connection.end()
