"""``esxiproxy certificate``: clients accept its certificates if they have them as their authority."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from esxiproxy.cli import certificate


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "new" / "listener.crt"
    parser = argparse.ArgumentParser()
    certificate.add_arguments(parser)
    assert certificate.run(parser.parse_args([str(path)])) == 0
    assert capsys.readouterr().out.startswith(f"{path}: sha256:")
    return path


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_verifies_strictly_accepts_it(made: Path, name: str) -> None:
    """Python sets these flags by default since 3.13."""
    context = ssl.create_default_context(cafile=str(made))
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    shake(context, made, name)


def test_a_client_that_wants_a_whole_chain_accepts_it(made: Path) -> None:
    context = ssl.create_default_context(cafile=str(made))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    shake(context, made, "localhost")


def test_another_name_is_refused(made: Path) -> None:
    context = ssl.create_default_context(cafile=str(made))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        shake(context, made, "esxi1.test")


def shake(context: ssl.SSLContext, path: Path, name: str) -> None:
    """Complete a TLS handshake in memory between a client with this context and a server with this file."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(path, path.with_suffix(".key"))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting


def test_it_has_the_extensions_that_rfc_5280_requires_of_an_authority(made: Path) -> None:
    """OpenSSL checks them strictly in a chain of more than one certificate."""
    extensions = x509.load_pem_x509_certificate(made.read_bytes()).extensions
    own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and usage.value.digital_signature
    assert extensions.get_extension_for_class(x509.BasicConstraints).critical
