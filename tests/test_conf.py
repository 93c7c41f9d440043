"""The configurations in conf/ and in the documentation are valid."""

from __future__ import annotations

import re
import shutil
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from esxiproxy.cli.main import main
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.ini import parse
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.schema import keys_of
from esxiproxy.core.config.section import find_key
from esxiproxy.nginx.upstreams import PLACEHOLDER
from tests.support.certificates import Certificate, self_signed
from tests.support.links import pair
from tests.support.programs import ROOT
from tools.document_keys import built_in_types

CONF = ROOT / "conf"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def types_in(text: str) -> set[str]:
    return set(re.findall(r"^type = (\w+)", text, re.M))


def revocation_list(certificate: Certificate) -> bytes:
    """Return an empty list of revoked certificates, which this certificate has signed."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(certificate.certificate.subject).last_update(now)
    signed = builder.next_update(now + timedelta(days=1)).sign(certificate.key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of conf/ with a file in every place where an example names one."""
    folder = tmp_path_factory.mktemp("examples") / "conf"
    shutil.copytree(CONF, folder)
    own = self_signed(folder.parent, "own")
    files = {"certificate": own.path, "private_key": own.key_path, "ca": own.path, "client_ca": own.path}
    for example in CONF.glob("*.ini"):
        for key, file in re.findall(r"^(\w+) = (\S+)", example.read_text(), re.M):
            if key in files:
                there = folder / file
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(files[key], there)
    (folder / "tls" / "clients.crl").write_bytes(revocation_list(own))
    (folder / "users.htpasswd").write_text("alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    (folder / "tokens").write_text("a-token: 192.0.2.11:443\n")
    for name in ("vc.password", "lab.password", "oidc.secret", "../var/demo/vcenter.password"):
        (folder / name).write_text("password\n")
    (folder / "link-keys").mkdir()
    (folder / "link-keys" / "site.eddsa.pem").write_bytes(pair("eddsa")[0])
    return folder


@pytest.mark.parametrize("example", sorted(path.name for path in CONF.glob("*.ini")))
def test_an_example_is_valid(
    example: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is valid without the libraries of the pages, which have to be fetched."""
    monkeypatch.setattr("esxiproxy.admin.page_library.missing", list)
    monkeypatch.setattr("esxiproxy.portal.viewer_library.missing", list)
    assert main(["check", "--strict", str(folder / example)]) == 0, capsys.readouterr().err


def test_every_type_has_an_example() -> None:
    """`static` and `anonymous` need no section."""
    types = built_in_types()
    built_in = {name for found in types.values() for name in found}
    named = {name for path in CONF.glob("*.ini") for name in types_in(path.read_text())}
    assert named | {"static", "anonymous"} == built_in


def blocks(page: Path) -> list[str]:
    """Return the indented blocks of a page that are parts of a configuration."""
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", page.read_text(encoding="utf-8"), re.M)
    kinds = "|".join(kind.value for kind in SectionKind)
    return [textwrap.dedent(block) for block in found if re.search(rf"^ {{4}}\[(?:{kinds})\b", block, re.M)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_keys_of_a_page_exist(page: Path) -> None:
    """Sections on a page have keys of their type, with values that can be parsed."""
    own = {
        (kind, name): {key.name: key for key in found.keys}
        for kind, types in built_in_types().items()
        for name, found in types.items()
    }
    examined = 0
    for block in blocks(page):
        for section in parse(block.encode(), page.name)[0]:
            entries = {name: entry.text for name, entry in section.entries.items()}
            kind = SectionKind(section.header.partition(" ")[0])
            keys = dict(keys_of(kind))
            if "type" in entries:
                if (kind, entries["type"]) not in own:
                    continue
                keys = own[kind, entries.pop("type")]
            for name, text in entries.items():
                key = find_key(keys, name)
                assert key is not None, f"{page.name}: [{section.header}] {name} is no key"
                if text == PLACEHOLDER:
                    continue
                try:
                    key.type.parse(text, Path())
                except BadValue as error:
                    assert str(error).startswith("no such "), (
                        f"{page.name}: [{section.header}] {name}: {error}"
                    )
                examined += 1
    assert examined
