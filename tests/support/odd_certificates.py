"""Certificates that no issuer should sign and some hosts have: their bytes are changed and signed again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from tests.support.certificates import Authority, Certificate, Shown

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def version(number: int) -> Callable[[bytes], bytes]:
    """Return the change that makes a certificate one of X.509 version ``number + 1``."""
    return lambda tbs: _replaced(tbs, bytes.fromhex("a003020102"), bytes([0xA0, 3, 2, 1, number]))


def _replaced(tbs: bytes, old: bytes, new: bytes) -> bytes:
    assert tbs.count(old) == 1 and len(old) == len(new)
    return tbs.replace(old, new)


def _serial(tbs: bytes, first: int) -> bytes:
    start = tbs.index(bytes.fromhex("a003020102")) + 7
    return tbs[:start] + bytes([first]) + tbs[start + 1 :]


def _date(tbs: bytes) -> bytes:
    start = tbs.index(b"\x17\x0d") + 2
    return tbs[:start] + b"99xx" + tbs[start + 4 :]


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "version 2": version(1),
    "version 4": version(3),
    "version 35": version(34),
    "negative serial": lambda tbs: _serial(tbs, 0x81),
    "unreadable date": _date,
    # The extended key usage becomes a second subjectAltName.
    "duplicate extension": lambda tbs: _replaced(tbs, b"\x55\x1d\x25", b"\x55\x1d\x11"),
    # An iPAddress becomes an x400Address.
    "unsupported name": lambda tbs: _replaced(tbs, b"\x87\x04\xc0\x00\x02\x0a", b"\xa3\x04\xc0\x00\x02\x0a"),
    "unreadable names": lambda tbs: _replaced(tbs, b"\x87\x04\xc0\x00\x02\x0a", b"\x87\x14\xc0\x00\x02\x0a"),
    "unknown curve": lambda tbs: _replaced(
        tbs, bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d037f07")
    ),
}


@dataclass(frozen=True, slots=True)
class Odd(Shown):
    """A certificate that cryptography may not be able to read, as bytes and as files."""

    der: bytes
    path: Path
    key_path: Path


def odd(issuer: Certificate, leaf: Certificate, change: Callable[[bytes], bytes], file: str = "odd") -> Odd:
    """Return this leaf with its bytes changed, and signed by the issuer once more."""
    tbs = change(leaf.certificate.tbs_certificate_bytes)
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = _tlv(0x30, tbs + ECDSA_SHA256 + _tlv(0x03, b"\0" + signature))
    path = leaf.path.with_name(f"{file}.crt")
    path.write_text(pem(der))
    return Odd(der, path, leaf.key_path)


def odd_leaf(authority: Authority, kind: str) -> Odd:
    """Return a leaf of this kind for esxi1.test, localhost and some addresses."""
    file = kind.replace(" ", "-")
    leaf = authority.server(file, ["esxi1.test", "localhost"], ["192.0.2.10", "127.0.0.1"])
    return odd(authority.own, leaf, KINDS[kind], f"odd-{file}")


def pem(der: bytes) -> str:
    """Return a certificate in PEM (RFC 7468)."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"


def server_context(certificate: Odd) -> SSL.Context:
    """Return a server's context that shows this certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.use_certificate_chain_file(certificate.path)
    context.use_privatekey_file(certificate.key_path)
    return context


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
