"""A listener's TLS: real handshakes against a listener's context, over Twisted's TLS in memory."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL, _util
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from esxiproxy.core.config.model import ClientCertificates, ListenerTLS, TLSVersion
from esxiproxy.net.tls.server import CurrentContext, listener_context, set_groups
from tests.net.tls_listener import Client, Line, Pki, dial, open_client, pump, serve, trusting
from tests.support.certificates import Authority, Certificate, issue


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


def test_the_private_call_exists() -> None:
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
