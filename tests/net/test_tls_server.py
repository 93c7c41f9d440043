"""A listener's TLS: real handshakes against a listener's context, over Twisted's TLS in memory."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, _util
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface.verify import verifyObject

from esxiproxy.core.config.model import ClientCertificates, ListenerTLS, TLSVersion
from esxiproxy.net.tls.server import CURVES, CurrentContext, TLSFileError, check, listener_context, set_groups
from tests.support.certificates import Authority, Certificate, issue, self_signed


def serve(certificate: Certificate, **more: Any) -> ListenerTLS:
    return ListenerTLS(certificate.path, certificate.key_path, **more)


@dataclass(frozen=True)
class Pki:
    authority: Authority
    server: Certificate
    rsa: Certificate

    @property
    def tls(self) -> ListenerTLS:
        return serve(self.server)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    return Pki(authority, authority.server(), authority.server("rsa", key="rsa"))


class Line:
    """A Twisted TLS server that echoes, and the wire to it."""

    def __init__(self, creator: CurrentContext) -> None:
        self.lost: Any = None
        self.transport = StringTransport()
        factory = Factory.forProtocol(lambda: Echo(self))
        factory.noisy = False
        self.tls = TLSMemoryBIOFactory(creator, False, factory, clock=Clock()).buildProtocol(None)
        self.tls.makeConnection(self.transport)

    def exchange(self, octets: bytes) -> bytes:
        """Send these bytes, and return what the server answers."""
        if octets and not self.transport.disconnecting:
            self.tls.dataReceived(octets)
        answer = self.transport.value()
        self.transport.clear()
        if self.transport.disconnecting and self.tls.connected:
            self.tls.connectionLost(None)
        return answer


class Echo(Protocol):
    transport: Any

    def __init__(self, line: Line) -> None:
        self._line = line

    def dataReceived(self, data: bytes) -> None:  # Twisted's name
        self.transport.writeSequence([data])
        self.transport.factory._clock.advance(1)

    def connectionLost(self, reason: Any = None) -> None:
        self._line.lost = reason


class Client:
    """A client in memory with the TLS of the standard library, without pyOpenSSL."""

    def __init__(self, context: ssl.SSLContext, line: Line, name: str | None = "localhost") -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self.line = line

    def run(self, step: Any) -> Any:
        for _ in range(20):
            try:
                return step()
            except ssl.SSLWantReadError:
                answer = self.line.exchange(self._out.read())
                if answer:
                    self._in.write(answer)
                elif self.line.transport.disconnecting:
                    self._in.write_eof()
            except ssl.SSLError:
                self.line.exchange(self._out.read())
                raise
        raise AssertionError("the handshake does not end")

    def shake(self) -> Client:
        """Do a handshake and one echo, because in TLS 1.3 a server refuses after the client has finished."""
        self.run(self.tls.do_handshake)
        self.tls.write(b"ping")
        assert self.run(lambda: self.tls.read(4)) == b"ping"
        return self


def trusting(pki: Pki, **settings: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.authority.path)
    # Debian's OpenSSL configuration would forbid what some of these clients try.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def dial(pki: Pki, tls: ListenerTLS | None = None, context: ssl.SSLContext | None = None) -> Client:
    line = Line(CurrentContext(listener_context(tls or pki.tls)))
    return Client(context or trusting(pki), line).shake()


def pump(client: SSL.Connection, line: Line) -> None:
    """Move bytes in both directions until neither side has any."""
    while True:
        try:
            octets = client.bio_read(65536)
        except SSL.WantReadError:
            return
        answer = line.exchange(octets)
        if answer:
            client.bio_write(answer)
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()


def open_client(context: SSL.Context, line: Line) -> SSL.Connection:
    """A pyOpenSSL client, for cases that the standard library does not support."""
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    pump(client, line)
    return client


def test_the_creator_has_twisteds_interface(pki: Pki) -> None:
    """CurrentContext provides Twisted's interface, and makes connections that accept."""
    assert verifyObject(IOpenSSLServerConnectionCreator, CurrentContext(listener_context(pki.tls)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["server", "rsa"])
def test_versions(pki: Pki, version: ssl.TLSVersion, kind: str) -> None:
    """TLS 1.2 and 1.3 are negotiated with both kinds of key."""
    context = trusting(pki, minimum_version=version, maximum_version=version)
    client = dial(pki, serve(getattr(pki, kind)), context)
    assert client.tls.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(pki: Pki, version: ssl.TLSVersion) -> None:
    """TLS 1.0 and 1.1 are refused."""
    context = trusting(pki, minimum_version=version, maximum_version=version)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol version|unsupported protocol"):
        dial(pki, context=context)


def test_minimum(pki: Pki) -> None:
    """A listener with minimum 1.3 refuses 1.2."""
    tls = serve(pki.server, minimum=TLSVersion.V1_3)
    assert dial(pki, tls).tls.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
        dial(pki, tls, trusting(pki, maximum_version=ssl.TLSVersion.TLSv1_2))


def test_chain(pki: Pki, tmp_path: Path) -> None:
    """The whole chain of the file is sent, so that a client with only the root can verify it."""
    middle = issue(pki.authority.own, tmp_path, "middle", authority=True)
    leaf = Authority.__new__(Authority)
    leaf.folder, leaf.own, leaf.path = tmp_path, middle, middle.path
    server = leaf.server("leaf")
    chain = tmp_path / "chain.crt"
    chain.write_text(server.pem + middle.pem)

    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        dial(pki, serve(server))
    dial(pki, ListenerTLS(chain, server.key_path))


def test_key_exchange_with_rsa_is_refused(pki: Pki) -> None:
    """Cipher suites without forward secrecy, or with CBC, are refused."""
    for suite in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
        context = trusting(pki, maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{suite}:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            dial(pki, serve(pki.rsa), context)


def test_the_client_chooses_the_cipher(pki: Pki) -> None:
    """The client's order of ciphers is used."""
    for wanted in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        context = trusting(pki, maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{wanted}:ECDHE-ECDSA-AES256-GCM-SHA384")
        assert dial(pki, context=context).tls.cipher() == (
            wanted,
            "TLSv1.2",
            256 if "CHACHA" in wanted else 128,
        )


def with_groups(groups: bytes, version: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    assert _util.lib.SSL_CTX_set1_curves_list(context._context, groups) == 1
    return context


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_groups(pki: Pki, version: int) -> None:
    """X25519, P-256 and P-384 are the groups, in both versions; others alone are refused."""
    # With RSA, because in TLS 1.2 the list also applies to the curve of an ECDSA certificate (RFC 8422 5.1).
    creator = CurrentContext(listener_context(serve(pki.rsa)))
    for group, name in ((b"X25519", "x25519"), (b"P-256", "secp256r1"), (b"P-384", "secp384r1")):
        client = open_client(with_groups(group, version), Line(creator))
        assert (client.get_group_name() or "").lower() in (name, "prime256v1")
    for group in (b"P-521", b"X448", b"P-521:X448"):
        with pytest.raises(SSL.Error, match="handshake failure"):
            open_client(with_groups(group, version), Line(creator))


class Without:
    """The cffi library without one of its functions."""

    def __init__(self, name: str, replacement: Any = None) -> None:
        self._name, self._replacement, self._lib = name, replacement, _util.lib

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(self._lib, name)
        if self._replacement is None:
            raise AttributeError(name)
        return self._replacement


@pytest.mark.parametrize("replacement", [None, lambda *_: 0], ids=["gone", "fails"])
def test_groups_without_the_private_call(pki: Pki, monkeypatch: pytest.MonkeyPatch, replacement: Any) -> None:
    """If the private call is gone or fails, P-256 is the only group."""
    with monkeypatch.context() as patch:
        patch.setattr(_util, "lib", Without("SSL_CTX_set1_curves_list", replacement))
        context = listener_context(pki.tls)
    open_client(with_groups(b"P-256", SSL.TLS1_3_VERSION), Line(CurrentContext(context)))
    for group in (b"X25519", b"P-384", b"P-521", b"X448"):
        with pytest.raises(SSL.Error, match="handshake failure"):
            open_client(with_groups(group, SSL.TLS1_3_VERSION), Line(CurrentContext(context)))


def test_the_private_call_is_there() -> None:
    """pyOpenSSL has the private call of set_groups; without it, listeners have only P-256."""
    assert callable(_util.lib.SSL_CTX_set1_curves_list)
    assert SSL.Context(SSL.TLS_METHOD)._context is not None
    set_groups(SSL.Context(SSL.TLS_METHOD))


def test_alpn(pki: Pki) -> None:
    """http/1.1 is selected at any position, and a client without ALPN gets no ALPN answer."""
    context = trusting(pki)
    assert dial(pki, context=context).tls.selected_alpn_protocol() is None
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert dial(pki, context=context).tls.selected_alpn_protocol() == "http/1.1"


def test_alpn_without_http(pki: Pki) -> None:
    """A client that offers only other protocols gets RFC 7301's alert; the next client is not affected."""
    creator = CurrentContext(listener_context(pki.tls))
    context = trusting(pki)
    context.set_alpn_protocols(["h2", "ftp"])
    line = Line(creator)
    with pytest.raises(ssl.SSLError, match=r"(?i)no application protocol"):
        Client(context, line).shake()
    assert line.lost.check(SSL.Error) and "no application protocol" in str(line.lost.value)
    Client(trusting(pki), Line(creator)).shake()


def test_renegotiation_is_refused(pki: Pki) -> None:
    """A client that asks for a renegotiation (TLS 1.2) gets the alert no_renegotiation (RFC 5246 7.2.2)."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    line = Line(CurrentContext(listener_context(pki.tls)))
    client = open_client(context, line)
    assert client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        try:
            client.do_handshake()
        except SSL.WantReadError:
            pump(client, line)


def test_no_compression(pki: Pki) -> None:
    """Nothing is compressed (CRIME)."""
    context = trusting(pki, maximum_version=ssl.TLSVersion.TLSv1_2)
    context.options &= ~ssl.OP_NO_COMPRESSION
    assert dial(pki, context=context).tls.compression() is None


def test_no_buffers_are_kept(pki: Pki) -> None:
    """An idle connection releases its buffers of 34 KiB."""
    assert SSL.Context(SSL.TLS_SERVER_METHOD).set_mode(0) & SSL.MODE_RELEASE_BUFFERS == 0
    assert listener_context(pki.tls).set_mode(0) & SSL.MODE_RELEASE_BUFFERS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate(pki: Pki, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """With client_ca a client needs a certificate of that authority, made for clients."""
    tls = serve(pki.server, client_ca=pki.authority.path)

    def attempt(shown: Certificate | None) -> Client:
        context = trusting(pki, minimum_version=version, maximum_version=version)
        if shown is not None:
            context.load_cert_chain(shown.path, shown.key_path)
        return dial(pki, tls, context)

    client = attempt(pki.authority.client("alice"))
    peer = client.line.tls.getHandle().get_peer_certificate(as_cryptography=True)
    assert peer.subject.rfc4514_string() == "CN=alice"
    with pytest.raises(ssl.SSLError):
        attempt(None)
    with pytest.raises(ssl.SSLError):
        attempt(Authority(tmp_path / "other", "another CA").client("mallory"))
    with pytest.raises(ssl.SSLError):
        attempt(pki.server)  # the right authority, but a certificate for servers


def test_an_optional_client_certificate_is_verified_if_there_is_one(pki: Pki, tmp_path: Path) -> None:
    tls = serve(pki.server, client_ca=pki.authority.path, client_certificates=ClientCertificates.OPTIONAL)

    def attempt(shown: Certificate | None) -> Any:
        context = trusting(pki)
        if shown is not None:
            context.load_cert_chain(shown.path, shown.key_path)
        return dial(pki, tls, context).line.tls.getHandle().get_peer_certificate(as_cryptography=True)

    assert attempt(None) is None
    assert attempt(pki.authority.client("alice")).subject.rfc4514_string() == "CN=alice"
    with pytest.raises(ssl.SSLError):
        attempt(Authority(tmp_path / "other", "another CA").client("mallory"))


def test_sessions_resume_with_client_certificates(pki: Pki) -> None:
    """A session is resumed, and the connection still has the client's certificate."""
    context = trusting(pki, maximum_version=ssl.TLSVersion.TLSv1_2)
    alice = pki.authority.client("alice")
    context.load_cert_chain(alice.path, alice.key_path)
    creator = CurrentContext(listener_context(serve(pki.server, client_ca=pki.authority.path)))
    first = Client(context, Line(creator)).shake()
    second = Client(context, Line(creator))
    second.tls = context.wrap_bio(
        second._in, second._out, server_hostname="localhost", session=first.tls.session
    )
    second.shake()
    assert second.tls.session_reused
    assert second.line.tls.getHandle().get_peer_certificate() is not None


def test_replace(pki: Pki, tmp_path: Path) -> None:
    """A new context is used for new connections; existing ones keep theirs."""
    renewed = pki.authority.server("renewed")
    creator = CurrentContext(listener_context(pki.tls))
    old = Client(trusting(pki), Line(creator)).shake()
    creator.replace(listener_context(serve(renewed)))
    new = Client(trusting(pki), Line(creator)).shake()
    assert old.tls.getpeercert(True) == pki.server.der
    assert new.tls.getpeercert(True) == renewed.der
    old.tls.write(b"pong")
    assert old.run(lambda: old.tls.read(4)) == b"pong"


def test_a_used_context_cannot_be_changed(pki: Pki) -> None:
    """pyOpenSSL refuses to change a context after its first connection."""
    context = listener_context(pki.tls)
    CurrentContext(context).connection()
    with pytest.raises(ValueError, match="cannot be mutated"):
        context.set_cipher_list(b"ALL")


def test_one_file_for_both(pki: Pki, tmp_path: Path) -> None:
    """Certificate and key may be in one file, in any order."""
    key = pki.server.key_path.read_text()
    for text in (key + pki.server.pem, pki.server.pem + key):
        both = tmp_path / "both.pem"
        both.write_text(text)
        dial(pki, ListenerTLS(both, both))


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_key_formats(pki: Pki, tmp_path: Path, form: str) -> None:
    """PKCS 8 and the older `BEGIN RSA PRIVATE KEY` are read."""
    path = tmp_path / "key.pem"
    path.write_bytes(
        pki.rsa.key.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, form),
            serialization.NoEncryption(),
        )
    )
    assert check(ListenerTLS(pki.rsa.path, path)) is None


KEYS: dict[str, Any] = {
    **{
        curve.name: partial(ec.generate_private_key, curve)
        for curve in (
            ec.SECP192R1(),
            ec.SECP224R1(),
            ec.SECP256R1(),
            ec.SECP384R1(),
            ec.SECP521R1(),
            ec.SECP256K1(),
            ec.BrainpoolP256R1(),
            ec.BrainpoolP384R1(),
            ec.BrainpoolP512R1(),
        )
    },
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "a DSA key": partial(dsa.generate_private_key, 2048),
    "rsa": partial(rsa.generate_private_key, 65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys(pki: Pki, tmp_path: Path, kind: str) -> None:
    """A certificate whose kind of key no client accepts is refused; all others are served."""
    key = KEYS[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(pki.authority.own.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(pki.authority.own.key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    tls = ListenerTLS(path, path)
    if kind in (*CURVES, "ed25519", "rsa"):
        assert check(tls) is None
        context = trusting(pki)
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        dial(pki, tls, context)
        return
    named = kind if kind == "a DSA key" else f"on the curve {kind}"
    assert check(tls) == (
        f"the key of {path} is {named}, which no TLS client accepts: "
        "get a certificate with an RSA key, or one on P-256 or P-384"
    )


def replaced(tls: ListenerTLS, field: str, path: Path) -> ListenerTLS:
    changes: Any = {field: path}
    return replace(tls, **changes)


class TestFiles:
    """Each file that cannot be used is refused with a sentence that names it."""

    def test_good(self, pki: Pki) -> None:
        assert check(pki.tls) is None
        assert check(serve(pki.server, client_ca=pki.authority.path)) is None

    def test_missing(self, pki: Pki, tmp_path: Path) -> None:
        gone = tmp_path / "gone.pem"
        for field in ("certificate", "private_key", "client_ca"):
            assert check(replaced(pki.tls, field, gone)) == f"no such file: {gone}"

    def test_unreadable(self, pki: Pki, tmp_path: Path) -> None:
        for field in ("certificate", "private_key", "client_ca"):
            sentence = check(replaced(pki.tls, field, tmp_path))
            assert sentence == f"{tmp_path} cannot be read: Is a directory"

    def test_no_pem(self, pki: Pki, tmp_path: Path) -> None:
        der = tmp_path / "server.der"
        der.write_bytes(pki.server.der)
        assert check(replace(pki.tls, certificate=der)) == f"{der} has no PEM certificate"
        assert check(replace(pki.tls, client_ca=der)) == f"{der} has no PEM certificate"
        assert check(replace(pki.tls, private_key=der)) == f"{der} has no PEM private key"

    def test_swapped(self, pki: Pki) -> None:
        swapped = ListenerTLS(pki.server.key_path, pki.server.path)
        assert check(swapped) == f"{pki.server.key_path} has no PEM certificate"

    def test_torn(self, pki: Pki, tmp_path: Path) -> None:
        torn = tmp_path / "torn.pem"
        torn.write_text("-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n")
        assert f"{torn} has a certificate that cannot be read" in (
            check(replace(pki.tls, certificate=torn)) or ""
        )
        torn.write_text("-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n")
        assert check(replace(pki.tls, private_key=torn)) == f"{torn} has a private key that cannot be read"

    def test_another_key(self, pki: Pki) -> None:
        for other in (pki.rsa, pki.authority.own):
            sentence = check(replace(pki.tls, private_key=other.key_path))
            assert sentence == (
                f"the key in {other.key_path} does not belong to the certificate in {pki.server.path}"
            )

    def test_wrong_order(self, pki: Pki, tmp_path: Path) -> None:
        chain = tmp_path / "chain.crt"
        chain.write_text(pki.authority.own.pem + pki.server.pem)
        assert f"the first certificate in {chain} does not belong to the key in {pki.server.key_path}" in (
            check(replace(pki.tls, certificate=chain)) or ""
        )

    @pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
    def test_encrypted(self, pki: Pki, tmp_path: Path, form: str) -> None:
        path = tmp_path / "encrypted.key"
        path.write_bytes(
            pki.rsa.key.private_bytes(
                serialization.Encoding.PEM,
                getattr(serialization.PrivateFormat, form),
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        sentence = check(ListenerTLS(pki.rsa.path, path)) or ""
        assert sentence.startswith(f"{path} is encrypted")
        assert "secret" not in sentence

    def test_error_type(self, pki: Pki, tmp_path: Path) -> None:
        with pytest.raises(TLSFileError) as caught:
            listener_context(serve(self_signed(tmp_path), client_ca=tmp_path / "gone"))
        assert isinstance(caught.value, ValueError)
