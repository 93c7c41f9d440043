"""Connects to one address of an upstream: TCP, TLS and opening handshake, under one deadline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from esxiproxy.core.networks import canonical
from esxiproxy.core.routing import Destination, Identity, TLSProfile, Upstream
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.admission.slot import Slot
from esxiproxy.net.tls.client import Contexts, UpstreamTLS
from esxiproxy.net.transport.stream import hand_over
from esxiproxy.net.transport.tls_start import TLSFactory
from esxiproxy.net.upstream.dial import Dial
from esxiproxy.net.upstream.health import Address, Health
from esxiproxy.net.upstream.names import NameResolver


class Dialled(Protocol):
    """The interface that the connector needs from a protocol that it connects.

    ``opened`` fires with the protocol when its connection can be used, and is None from then on.  ``step``
    is a phrase for the message of a timeout: what the upstream has to do before ``opened`` fires.
    ``may_send`` is called when the host is verified, before the request is sent.  If it returns False the
    protocol sends nothing and fails.  ``address`` is the one of several addresses that it is connected to.
    """

    opened: Deferred[Any] | None
    slot: Slot | None
    may_send: Callable[[], bool]
    address: Address | None

    @property
    def step(self) -> str: ...


P = TypeVar("P", bound=Dialled)

_TLSKey = tuple[str, str, int, Identity, TLSProfile]
"""What the TLS settings of a host depend on: section, host, port, identity and TLS profile."""
_REMEMBERED = 1024
"""Maximum number of hosts outside the configuration whose TLS settings and session are cached.

A cached TLS session takes some KiB, and is resumed by the next connection to the upstream.
"""


class _DialFactory(Factory):
    """A factory that returns the one protocol of one dial."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol: Any = protocol

    def buildProtocol(self, addr: Any) -> Any:
        protocol, self._protocol = self._protocol, None
        return protocol


class _HeaderFactory(Factory):
    """A factory of protocols that send a PROXY header before TLS and before everything else."""

    noisy = False

    def __init__(self, factory: Any, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def buildProtocol(self, addr: Any) -> Any:
        return _HeaderWriter(self._factory.buildProtocol(addr), self._header)


class _HeaderWriter(TwistedProtocol):
    """A protocol that sends the header and makes another one the protocol of the transport.

    It forwards the events of transports whose protocol cannot be replaced.
    """

    def __init__(self, protocol: Any, header: bytes) -> None:
        self._protocol = protocol
        self._header = header

    def makeConnection(self, transport: Any) -> None:
        transport.write(self._header)
        hand_over(transport, self._protocol)

    def dataReceived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._protocol.connectionLost(reason)


class Connector:
    """A connector to upstreams, which builds the TLS settings of each upstream once.

    Those of upstreams in the configuration are kept; of other hosts, the most recently used are cached.
    """

    def __init__(
        self,
        reactor: Any,
        names: NameResolver | None = None,
        clock: Any = None,
        health: Health | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self.names = names or NameResolver(reactor, self._clock)
        self.health = health or Health(self._clock)
        self._prepared: dict[_TLSKey, UpstreamTLS] = {}
        self._prepared_by_id: dict[int, UpstreamTLS] = {}
        """The same by the identity of their upstreams, to which they refer.  A key takes longer to hash."""
        self._tls: OrderedDict[_TLSKey, UpstreamTLS] = OrderedDict()
        self._contexts = Contexts()

    def prepare(self, upstream: Upstream) -> None:
        """Read the CA file of the upstream now, before ``twistd --uid`` drops the permission to do so.

        Raises TLSFileError.
        """
        for address in Destination.of(upstream).addresses if upstream.secure else ():
            one = Destination.of(upstream).upstream_at(address)
            tls = UpstreamTLS(one, self._contexts, keep=True)
            self._prepared[_key(one)] = self._prepared_by_id[id(one)] = tls

    def connect(
        self,
        upstream: Upstream,
        host: str,
        make: Callable[[Upstream, UpstreamTLS | None], P],
        limits: SessionLimits,
        proxy_header: bytes = b"",
        slot: Slot | None = None,
        seconds: float | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Deferred[P]:
        """Connect the protocol that ``make`` builds, and return it when its connection can be used.

        ``host`` is the IP address or the path of the unix socket to dial.  ``make`` is called with the
        upstream and its TLS settings, which are None if it has no TLS.  ``proxy_header`` is sent first.
        ``seconds`` is the deadline for all steps until the protocol's ``opened`` fires, by default
        ``upstream_handshake_timeout``.  ``slot`` is released when the connection fails or ends.  ``may_send``
        is asked before the request is sent.

        The Deferred fails with a SessionError.  Cancelling it closes the connection.
        """
        tls = self._tls_of(upstream)
        protocol = make(upstream, tls)
        protocol.slot = slot
        if may_send is not None:
            protocol.may_send = may_send
            protocol.address = canonical(host), upstream.port
        factory: Any = None
        if tls is not None:
            factory = TLSFactory(tls, True, _DialFactory(protocol), self._clock, tls.resumption)
        if proxy_header:
            factory = _HeaderFactory(factory or _DialFactory(protocol), proxy_header)
        if seconds is None:
            seconds = limits.upstream_handshake_timeout
        return Dial(self._clock, protocol, factory, upstream, limits, slot, seconds).start(
            self._reactor, host
        )

    def _tls_of(self, upstream: Upstream) -> UpstreamTLS | None:
        if not upstream.secure:
            return None
        if (same := self._prepared_by_id.get(id(upstream))) is not None:
            return same
        key = _key(upstream)
        prepared = self._prepared.get(key)
        if prepared is not None:
            return prepared
        known = self._tls.get(key)
        if known is None:
            known = self._tls[key] = UpstreamTLS(upstream, self._contexts)
            if len(self._tls) > _REMEMBERED:
                self._tls.popitem(last=False)
        self._tls.move_to_end(key)
        return known


def _key(upstream: Upstream) -> _TLSKey:
    return upstream.name, upstream.host, upstream.port, upstream.identity, upstream.tls_profile
