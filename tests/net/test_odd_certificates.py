"""Certificates that cryptography or OpenSSL cannot read: each has an error message and no traceback."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.errors import ConfigError
from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.core.errors import UpstreamUntrusted
from esxiproxy.core.routing import Upstream, Verify
from esxiproxy.core.thumbprint import Pin
from esxiproxy.doctor.certificate import UNREADABLE, read_certificate
from esxiproxy.net.tls import client as trust
from esxiproxy.net.tls import server as tls
from esxiproxy.net.tls.client import UpstreamTLS, verify_certificate
from esxiproxy.net.tls.errors import ChainFault
from tests.net.tls_upstream import ESXI, REQUEST, bare, dial, shake_hands
from tests.support.certificates import Authority
from tests.support.odd_certificates import KINDS, Odd, odd, odd_leaf, pem, server_context, version

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")
UNSHOWN = {"unknown curve"}
"""Certificates that OpenSSL does not load with their key, so that a server cannot send them."""
ACCEPTED = {"negative serial"}
"""Certificates whose compared parts can be read."""


@pytest.fixture(scope="module")
def leaves(authority: Authority) -> dict[str, Odd]:
    return {kind: odd_leaf(authority, kind) for kind in KINDS}


class OddCreator:
    """The TLS of a host with such a certificate."""

    def __init__(self, certificate: Odd) -> None:
        self.context = server_context(certificate)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def outcome(upstream: Upstream, certificate: Odd) -> tuple[Any, bytes]:
    client, host = dial(UpstreamTLS(upstream), OddCreator(certificate))
    return client, host.received


@pytest.mark.parametrize("kind", sorted(set(KINDS) - UNSHOWN))
class TestUpstream:
    def test_a_pin_says_everything(self, leaves: dict[str, Odd], kind: str) -> None:
        leaf = leaves[kind]
        pinning = replace(ESXI, verify=Verify.PIN, pins=(Pin("sha256", bare(leaf.sha256)),))
        for upstream in (pinning, replace(ESXI, verify=Verify.NONE)):
            client, received = outcome(upstream, leaf)
            assert client.error is None and received == REQUEST, client.raw
        client, received = outcome(replace(pinning, pins=(Pin("sha256", "ab" * 32),)), leaf)
        assert isinstance(client.error, UpstreamUntrusted) and received == b""

    @pytest.mark.parametrize("known", [True, False])
    def test_a_chain_is_refused_by_name(
        self, authority: Authority, leaves: dict[str, Odd], tmp_path: Path, kind: str, known: bool
    ) -> None:
        """The error is UpstreamUntrusted with a pin, whether the authority is known or not."""
        leaf = leaves[kind]
        ca = authority.path if known else Authority(tmp_path, "another CA").path
        client, received = outcome(replace(ESXI, ca=ca), leaf)
        if kind in ACCEPTED and known:
            assert client.error is None and received == REQUEST
            return
        assert isinstance(client.error, UpstreamUntrusted), client.raw
        assert f"pin = sha256:{leaf.sha256}" in str(client.error) and received == b""


def test_an_odd_authority_above_a_good_leaf(authority: Authority, tmp_path: Path) -> None:
    """A fault of a certificate that cannot be read is reported without its name."""
    der = odd(authority.own, authority.own, version(3), "odd-ca").der
    fault = ChainFault.of(crypto.load_certificate(crypto.FILETYPE_ASN1, der), 19, 1)
    assert (fault.subject, fault.until) == ("a certificate that cannot be read", None)


@pytest.mark.parametrize("kind", sorted(KINDS))
class TestFiles:
    def test_listener(self, leaves: dict[str, Odd], kind: str) -> None:
        leaf = leaves[kind]
        sentence = tls.check(ListenerTLS(leaf.path, leaf.key_path))
        assert sentence is None or str(leaf.path) in sentence
        if kind.startswith("version"):
            assert f"{leaf.path} has a certificate that cannot be read" in (sentence or "")
        if kind == "unknown curve":
            assert f"{leaf.path} has a public key that cannot be read" in (sentence or "")

    def test_authorities(self, authority: Authority, leaves: dict[str, Odd], kind: str) -> None:
        good, leaf = authority.server("beside"), leaves[kind]
        sentences = {
            tls.check(ListenerTLS(good.path, good.key_path, client_ca=leaf.path)),
            trust.check(replace(ESXI, ca=leaf.path)),
        }
        (sentence,) = sentences
        assert sentence is None or str(leaf.path) in sentence
        assert (sentence is not None) is (kind.startswith("version") or kind == "unreadable date")

    def test_doctor(self, leaves: dict[str, Odd], kind: str) -> None:
        leaf = leaves[kind]
        facts = read_certificate(leaf.der)
        assert str(facts.pins[0]) == f"sha256:{leaf.sha256}"
        if kind.startswith("version") or "name" in kind or kind == "duplicate extension":
            assert not facts.readable
        if kind.startswith("version"):
            assert facts.subject == UNREADABLE and facts.not_after is None


def test_check_and_start_name_the_line(authority: Authority, leaves: dict[str, Odd], tmp_path: Path) -> None:
    """A configuration with such files is a problem of its lines."""
    leaf = leaves["version 4"]
    path = tmp_path / "proxy.ini"
    path.write_text(
        f"[listener one]\nlisten = 127.0.0.1:81\nupstream = esxi\ncertificate = {leaf.path}\n"
        f"private_key = {leaf.key_path}\n[upstream esxi]\nurl = wss://esxi1.test\n"
        f"verify = ca\nca = {leaf.path}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_checked(path)
    text = f"{leaf.path} has a certificate that cannot be read: 3 is not a valid X509 version"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:4: [listener one] certificate: {text}",
        f"{path}:9: [upstream esxi] ca: {text}",
    ]


def test_a_client_with_an_odd_certificate_is_admitted(authority: Authority) -> None:
    """The chain of a client is verified by OpenSSL alone."""
    own = authority.server("own")
    client_leaf = odd(authority.own, authority.client("alice"), version(3), "odd-alice")
    context = tls.listener_context(ListenerTLS(own.path, own.key_path, client_ca=authority.path))
    shown = SSL.Context(SSL.TLS_CLIENT_METHOD)
    shown.use_certificate_chain_file(client_leaf.path)
    shown.use_privatekey_file(client_leaf.key_path)
    client, server = SSL.Connection(shown, None), tls.CurrentContext(context).connection()
    client.set_connect_state()
    shake_hands(client, server)
    assert crypto.dump_certificate(crypto.FILETYPE_ASN1, server.get_peer_certificate()) == client_leaf.der


@pytest.mark.parametrize("error", [ValueError("no date"), crypto.Error([])])
def test_a_client_certificate_without_a_readable_date(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A handshake fails with an exception of OpenSSL and a reason."""

    class Undated:
        def has_expired(self) -> bool:
            raise error

    class Shaken(tls.ListenerConnection):
        def get_peer_certificate(self, **_: Any) -> Any:
            return Undated()

    good = authority.server("dated")
    connection = Shaken(tls.listener_context(ListenerTLS(good.path, good.key_path)), None)
    monkeypatch.setattr(SSL.Connection, "do_handshake", lambda _connection: None)
    with pytest.raises(SSL.Error) as caught:
        connection.do_handshake()
    assert tls.reason_of(caught.value) == "the dates of the client's certificate cannot be read"


def test_every_certificate_with_one_changed_byte(authority: Authority, tmp_path: Path) -> None:
    """Each fault of a certificate has a message, wherever the certificate is read."""
    leaf = authority.server("changed", ["esxi1.test"], ["192.0.2.10"])
    path = tmp_path / "changed.crt"
    upstream = replace(ESXI, ca=path)
    readers: list[Callable[[bytes], Any]] = [
        lambda der: tls.check(ListenerTLS(path, leaf.key_path)),
        lambda der: tls.check(ListenerTLS(leaf.path, leaf.key_path, client_ca=path)),
        lambda der: trust.check(upstream),
        lambda der: _told(lambda: verify_certificate(der, upstream)),
        lambda der: ChainFault.of(crypto.load_certificate(crypto.FILETYPE_ASN1, der), 20, 0),
        read_certificate,
    ]
    opaque = _opaque_places(leaf.certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, octet in enumerate(leaf.der):
            others = {octet ^ 1} if place in opaque else {0, 0xFF, octet ^ 1, octet ^ 0x20} - {octet}
            for other in others:
                der = leaf.der[:place] + bytes([other]) + leaf.der[place + 1 :]
                path.write_text(pem(der))
                for read in readers:
                    try:
                        read(der)
                    except crypto.Error:
                        assert read is readers[4], f"{place}: {other}"


def _opaque_places(certificate: x509.Certificate) -> set[int]:
    """Return the places of bytes without a structure: what the changed ones are makes no difference."""
    der = certificate.public_bytes(Encoding.DER)
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    point = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert issuer is not None
    found: set[int] = set()
    for part in (own, issuer, point[1:], certificate.signature[8:]):
        assert der.count(part) == 1
        start = der.index(part)
        found.update(range(start, start + len(part)))
    return found


def _told(verify: Callable[[], None]) -> None:
    try:
        verify()
    except UpstreamUntrusted as error:
        assert str(error).isprintable()
