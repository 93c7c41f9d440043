"""The certificate files of a listener: their formats, keys and errors."""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.net.tls.server import CURVES, TLSFileError, check, listener_context
from tests.net.tls_listener import Pki, dial, serve, trusting
from tests.support.certificates import issue, self_signed


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
    "a DSA key": partial(dsa.generate_private_key, 1024),
    "rsa": partial(rsa.generate_private_key, 65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys(pki: Pki, tmp_path: Path, kind: str) -> None:
    """A certificate whose kind of key no client accepts is refused; all others are served."""
    made = issue(pki.authority.own, tmp_path, "own", names=[x509.DNSName("localhost")], key=KEYS[kind]())
    path = tmp_path / "both.pem"
    path.write_bytes(made.path.read_bytes() + made.key_path.read_bytes())
    tls = ListenerTLS(path, path)
    if kind in (*CURVES, "ed25519", "rsa"):
        assert check(tls) is None
        dial(pki, tls, trusting(pki, verify_flags=ssl.VerifyFlags.VERIFY_X509_STRICT))
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
