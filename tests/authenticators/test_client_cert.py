"""The authenticator `client_cert`: names and groups of certificates, revocation, and the end of a login."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from esxiproxy.authenticators.client_cert import TYPE, ClientCert
from esxiproxy.authenticators.client_name import GroupSource, NameSource, utf8_string
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from tests.authenticators.world import DAY, World, problems, request, settings
from tests.support.logs import process_log
from tests.support.outcome import result

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.fromtimestamp(DAY, UTC)
HOUR = timedelta(hours=1)
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
CN, OU, ORG, MAIL = (
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.EMAIL_ADDRESS,
)


def x509_name(*attributes):
    return x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in attributes])


CA = x509_name((CN, "Clients"))


def certificate(*attributes, names=(), serial=7, issuer=CA, end=HOUR, key_id=None):
    """Return a certificate in DER."""
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(x509_name(*attributes))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + end)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if key_id is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def crl(*serials, issuer=CA, start=-HOUR, end=HOUR, encoding=Encoding.PEM, extensions=()):
    builder = x509.CertificateRevocationListBuilder(issuer).last_update(NOW + start).next_update(NOW + end)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial, NOW - HOUR).build()
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(encoding)


ALICE = certificate((CN, "alice"))


@pytest.fixture
def world():
    return World("authenticator certs")


def made(world, *arguments, **more):
    """Return an authenticator that has read its files."""
    found = ClientCert(world.context, *arguments, time_of_day=world.time_of_day, **more)
    result(found.ready())
    return found


def identify(world, der, **more):
    return result(made(world, **more).authenticate(request(certificate=der)))


def refused(authenticator, der):
    with pytest.raises(AccessDenied) as caught:
        result(authenticator.authenticate(request(certificate=der)))
    assert caught.value.status_code == 403
    return str(caught.value)


def point(**more):
    names = (
        *("full_name", "relative_name", "only_contains_user_certs", "only_contains_ca_certs"),
        *("only_some_reasons", "indirect_crl", "only_contains_attribute_certs"),
    )
    empty = {
        name: None if name in ("full_name", "relative_name", "only_some_reasons") else False for name in names
    }
    return x509.IssuingDistributionPoint(**empty | more)


# Names


def utf8(text):
    octets = text.encode()
    return b"\x0c" + (bytes([len(octets)]) if len(octets) < 128 else bytes([0x81, len(octets)])) + octets


NAMES = {
    "subject:CN": certificate((ORG, "Lab"), (CN, "alice"), (MAIL, "x@y")),
    "subject:emailAddress": certificate((CN, "x"), (MAIL, "alice")),
    "san:email": certificate((CN, "x"), names=[x509.RFC822Name("alice"), x509.DNSName("x")]),
    "san:dns": certificate((CN, "x"), names=[x509.DNSName("alice"), x509.RFC822Name("x@y")]),
    "san:uri": certificate((CN, "x"), names=[x509.UniformResourceIdentifier("alice")]),
    "san:upn": certificate(
        (CN, "x"),
        names=[x509.OtherName(x509.ObjectIdentifier("1.2.3"), utf8("x")), x509.OtherName(UPN, utf8("alice"))],
    ),
}


@pytest.mark.parametrize("source", NAMES)
def test_a_part_of_the_certificate_is_the_name(world, source):
    principal = identify(world, NAMES[source], name=NameSource(source))
    assert (principal.name, principal.groups, principal.consumed) == ("alice", frozenset(), frozenset())
    assert principal.expires == DAY + 3600 and ClientCert.ambient


@pytest.mark.parametrize("source", NAMES)
def test_a_certificate_without_this_part_is_refused(world, source):
    others = certificate((ORG, "Lab"))
    text = refused(made(world, NameSource(source)), others)
    assert text == f"the client's certificate has no {source}, which is its name here"


def test_without_a_certificate_the_next_one_is_asked(world):
    assert identify(world, None) is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [("subject:OU", {"ops", "dev"}), ("subject:O", {"Lab"}), ("none", set())],
)
def test_parts_of_the_subject_are_the_groups(world, source, expected):
    der = certificate((ORG, "Lab"), (OU, "ops"), (OU, "dev"), (CN, "alice"))
    assert identify(world, der, groups=GroupSource(source)).groups == expected


BAD_NAMES = {
    ((CN, "alice"), (CN, "bob")): "has 2 names in subject:CN, not one",
    ((CN, "alice"), (CN, "alice")): "has 2 names",
    ((CN, ""),): "is empty",
    ((CN, "  "),): "is empty",
    ((CN, " alice"),): "is surrounded by spaces",
    ((CN, "alice\n"),): "has control characters",
    ((CN, "alice\0.example.com"),): "has control characters",
    ((CN, "\u202eecila"),): "has control characters",
    ((CN, "a" * 256),): "is too long",
    ((CN, "anonymous"),): "is the name of clients that are not known",
}


@pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")
@pytest.mark.parametrize("attributes", BAD_NAMES, ids=map(str, range(len(BAD_NAMES))))
def test_a_name_that_is_not_clear_is_refused(world, attributes):
    authenticator = made(world)
    assert BAD_NAMES[attributes] in refused(authenticator, certificate(*attributes))


@pytest.mark.parametrize("value", [b"\x13\x03abc", b"\x0c\x02\xff\xff", b"\x05\x00"])
def test_a_principal_name_that_is_no_text_is_refused(world, value):
    authenticator = made(world, NameSource.UPN)
    der = certificate((CN, "x"), names=[x509.OtherName(UPN, value)])
    assert refused(authenticator, der) == "san:upn of the client's certificate cannot be read"


@pytest.mark.parametrize(
    "value",
    [b"", b"\x0c", b"\x0c\x05abc", b"\x0c\x02abc", b"\x0c\x80abc", b"\x0c\x84\0\0\0\1a", b"\x0c\xff"],
)
def test_a_text_that_is_no_der_is_refused(value):
    with pytest.raises(ValueError, match="is no UTF8String"):
        utf8_string(value)


def test_a_long_principal_name_is_read(world):
    der = certificate((CN, "x"), names=[x509.OtherName(UPN, utf8("a" * 200))])
    assert identify(world, der, name=NameSource.UPN).name == "a" * 200


def test_two_alternative_names_are_refused(world):
    authenticator = made(world, NameSource.DNS)
    der = certificate((CN, "x"), names=[x509.DNSName("a"), x509.DNSName("b")])
    assert "has 2 names in san:dns" in refused(authenticator, der)


def test_a_group_with_control_characters_is_refused(world):
    authenticator = made(world, groups=GroupSource.UNIT)
    assert "subject:OU" in refused(authenticator, certificate((CN, "alice"), (OU, "a\x1bb")))


@pytest.mark.parametrize("der", [b"", b"\x30\x00", ALICE[:-1], ALICE + b"x"])
def test_a_certificate_that_cannot_be_read_is_refused(world, der):
    authenticator = made(world)
    assert refused(authenticator, der) == "the client's certificate cannot be read"


def test_a_refusal_is_logged_with_the_subject(world):
    authenticator = made(world, NameSource.DNS)
    with process_log() as lines:
        refused(authenticator, certificate((CN, "al\x1bice"), serial=0xABC))
    assert lines == [
        "[authenticator certs] the certificate of 192.0.2.7 is refused, 'CN=al\\x1bice' (serial abc): "
        "the client's certificate has no san:dns, which is its name here"
    ]


# Revocation


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_revoked_certificate_is_refused(world, tmp_path, encoding):
    path = tmp_path / "crl"
    path.write_bytes(crl(9, 8, encoding=encoding))
    authenticator = made(world, crl=(path,))
    assert (
        refused(authenticator, certificate((CN, "alice"), serial=8)) == "the client's certificate is revoked"
    )
    assert result(authenticator.authenticate(request(certificate=ALICE))).name == "alice"


def test_a_file_may_have_the_lists_of_several_issuers(world, tmp_path):
    other, path = x509_name((CN, "Other")), tmp_path / "crl"
    path.write_bytes(crl(8) + b"text\n" + crl(7, issuer=other))
    authenticator = made(world, crl=(path,))
    assert result(authenticator.authenticate(request(certificate=ALICE))).name == "alice"
    assert "is revoked" in refused(authenticator, certificate((CN, "alice"), issuer=other))
    unknown = certificate((CN, "alice"), issuer=x509_name((CN, "Third")))
    assert refused(authenticator, unknown).startswith("no list of revoked certificates has the issuer")


def test_a_list_of_another_key_of_the_issuer_does_not_apply(world, tmp_path):
    path = tmp_path / "crl"
    path.write_bytes(crl(extensions=[(x509.AuthorityKeyIdentifier(b"new", None, None), False)]))
    authenticator = made(world, crl=(path,))
    assert "no list" in refused(authenticator, certificate((CN, "alice"), key_id=b"old"))
    for key_id in (b"new", None):
        der = certificate((CN, "alice"), key_id=key_id)
        assert result(authenticator.authenticate(request(certificate=der))).name == "alice"


UNCLEAR = "it cannot be told whether the client's certificate is revoked"


def test_an_expired_list_refuses_all_and_is_logged_once(world, tmp_path):
    path, other = tmp_path / "crl", tmp_path / "other"
    path.write_bytes(crl(end=2 * HOUR))
    other.write_bytes(crl(issuer=x509_name((CN, "Other")), end=HOUR / 2))
    authenticator = made(world, crl=(path, other))
    assert result(authenticator.authenticate(request(certificate=ALICE))).name == "alice"
    world.clock.advance(1800)
    with process_log() as lines:
        assert [refused(authenticator, ALICE) for _ in range(3)] == [UNCLEAR] * 3
    assert lines == [
        f"[authenticator certs] all client certificates are refused: {other}: "
        "the list of revoked certificates has expired: replace it"
    ]
    world.change(other, crl(issuer=x509_name((CN, "Other"))))
    assert result(authenticator.authenticate(request(certificate=ALICE))).name == "alice"


def test_a_list_that_is_not_valid_yet_refuses_all(world, tmp_path):
    (tmp_path / "crl").write_bytes(crl(start=HOUR / 2))
    authenticator = made(world, crl=(tmp_path / "crl",))
    assert refused(authenticator, ALICE) == UNCLEAR


def test_a_list_that_becomes_unreadable_refuses_all_until_it_can_be_read(world, tmp_path):
    path = tmp_path / "crl"
    path.write_bytes(crl())
    authenticator = made(world, crl=(path,))
    with process_log() as lines:
        world.change(path, crl()[:100])
        assert refused(authenticator, ALICE) == UNCLEAR == refused(authenticator, ALICE)
    assert len(lines) == 1 and lines[0].startswith(
        "[authenticator certs] all client certificates are refused"
    )
    world.change(path, crl(7))
    assert "is revoked" in refused(authenticator, ALICE)
    world.change(path, crl())
    assert result(authenticator.authenticate(request(certificate=ALICE))).name == "alice"


UNSUITABLE = {
    "a delta": (crl(extensions=[(x509.DeltaCRLIndicator(1), True)]), "is a delta CRL"),
    "authorities": (crl(extensions=[(point(only_contains_ca_certs=True), True)]), "covers only a part"),
    "indirect": (crl(extensions=[(point(indirect_crl=True), True)]), "covers only a part"),
    "a share": (crl(extensions=[(point(full_name=[x509.DNSName("x")]), True)]), "covers only a part"),
    "an unknown extension": (
        crl(extensions=[(x509.UnrecognizedExtension(UPN, b"\x05\0"), True)]),
        "has a critical extension that is not known, 1.3.6.1.4.1.311.20.2.3",
    ),
    "text": (b"hello", "is no list of revoked certificates"),
    "nothing": (b"", "is no list of revoked certificates"),
    "a part": (crl()[:-30], "has something else than complete PEM blocks"),
    "damage": (crl().replace(b"\nM", b"\nA", 1), "is no list of revoked certificates"),
    "a certificate": (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "has something else",
    ),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_another_file_is_a_mistake_of_the_section(tmp_path, name):
    content, text = UNSUITABLE[name]
    (tmp_path / "crl").write_bytes(content)
    ((key, problem),) = problems(TYPE, tmp_path, crl="crl")
    assert key == "crl" and problem.startswith(text) and str(tmp_path / "crl") in problem


def test_a_list_for_client_certificates_is_accepted(world, tmp_path):
    (tmp_path / "crl").write_bytes(crl(extensions=[(point(only_contains_user_certs=True), True)]))
    assert identify(world, ALICE, crl=(tmp_path / "crl",)).name == "alice"


# Reauthentication


def test_a_login_ends_with_its_certificate_or_its_revocation(world, tmp_path):
    path = tmp_path / "crl"
    path.write_bytes(crl(end=10 * HOUR))
    authenticator = made(world, crl=(path,))
    first = request(certificate=ALICE)
    principal = result(authenticator.authenticate(first))
    remembered = authenticator.remember(first, principal)
    assert result(authenticator.reauthenticate(remembered)) == principal
    world.change(path, crl(7, end=10 * HOUR))
    with pytest.raises(AccessDenied, match="is revoked"):
        result(authenticator.reauthenticate(remembered))
    world.change(path, crl(end=10 * HOUR))
    world.clock.advance(3600)
    with pytest.raises(AccessDenied, match="has expired"):
        result(authenticator.reauthenticate(remembered))


def test_without_a_valid_list_a_login_cannot_be_checked(world, tmp_path):
    path = tmp_path / "crl"
    path.write_bytes(crl(end=HOUR / 2))
    authenticator = made(world, crl=(path,))
    remembered = authenticator.remember(request(certificate=ALICE), None)
    world.clock.advance(1800)
    with pytest.raises(ServiceUnavailable):
        result(authenticator.reauthenticate(remembered))
    path.unlink()
    world.watched[path]()
    world.clock.advance(1)
    with pytest.raises(ServiceUnavailable):
        result(authenticator.reauthenticate(remembered))


# The section


def test_a_section_creates_the_authenticator(world, tmp_path):
    for name in ("a.crl", "b.crl"):
        (tmp_path / name).write_bytes(crl())
    values = settings(TYPE, tmp_path, name="san:upn", groups="subject:OU", crl="a.crl, b.crl, a.crl")
    assert isinstance(TYPE.create(values, world.context), ClientCert)
    assert list(world.watched) == [tmp_path / "a.crl", tmp_path / "b.crl"]


def test_the_defaults_of_a_section(world, tmp_path):
    values = settings(TYPE, tmp_path)
    found = [values[key] for key in ("name", "groups", "crl", "reauthenticate", "reauthenticate_grace")]
    assert found == [NameSource.COMMON_NAME, GroupSource.NONE, None, None, 900.0]
    assert problems(TYPE, tmp_path) == [] and TYPE.create(values, world.context) and world.watched == {}


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ({"name": "CN"}, "is not subject:CN, "),
        ({"groups": "CN"}, "is not subject:OU, "),
        ({"crl": "a,,b"}, "has an empty name of a file"),
    ],
)
def test_another_value_is_refused(tmp_path, texts, text):
    with pytest.raises(BadValue, match=text):
        settings(TYPE, tmp_path, **texts)


def test_a_list_that_is_missing_is_a_mistake(tmp_path):
    assert problems(TYPE, tmp_path, crl="x, .") == [
        ("crl", f"no such file: {tmp_path / 'x'}"),
        ("crl", f"cannot be read (Is a directory): {tmp_path}"),
    ]
