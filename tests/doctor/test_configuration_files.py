"""The permissions of a configuration's files and the certificates in them, in words with what to do."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from esxiproxy.app.preflight import load
from esxiproxy.doctor.configuration.account import Account, UnknownAccount
from esxiproxy.doctor.configuration.expiry import (
    certificate_files,
)
from esxiproxy.doctor.configuration.files import files_of, holds_key
from esxiproxy.doctor.configuration.permissions import permission_findings
from esxiproxy.doctor.configuration.result import CheckResult, CheckVerdict
from tests.support.certificates import Authority
from tests.support.config import authenticator, ini, listener, router, template, upstream

DAY = timedelta(days=1)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes on the permissions of another user")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Create a folder that every user can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nobody() -> Account:
    return Account.named("nobody")


def files_in(folder: Path) -> str:
    """Return a configuration with a file of every kind, whose permissions are right."""
    tls = Authority(folder).server("tls")
    tls.key_path.chmod(0o600)
    (folder / "users").write_text("alice:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbb.\n")
    (folder / "hosts.csv").write_text("name,address\na,10.0.0.1\n")
    (folder / "tokens").write_text("one: 10.0.0.2:443\n")
    (folder / "operators").write_text("")
    for secret in ("users", "tokens"):
        (folder / secret).chmod(0o600)
    for each in ("log", "state"):
        (folder / each).mkdir()
    (folder / "log/access").write_text("")
    return ini(
        listener(upstream=None, router="fleet, tokens", authenticator="staff", tls=tls),
        upstream("wss://10.0.0.1", verify="ca", ca=folder / "ca.crt"),
        template(verify="none"),
        router("fleet", "inventory", file="hosts.csv", template="esxi", locate="path:/h/{host}/"),
        router("tokens", "tokens", source="tokens", template="esxi", allow="10.0.0.0/8"),
        authenticator("staff", "htpasswd", file="users"),
        access_log="log/access",
        state="sqlite:state/db",
        manhole="2222",
        manhole_keys="operators",
    )


def findings(folder: Path, account: Account, text: str | None = None) -> list[CheckResult]:
    file = folder / "proxy.ini"
    file.write_text(files_in(folder) if text is None else text)
    file.chmod(0o644)
    return permission_findings(files_of(load(file)), account)


def test_files_that_are_as_they_should_be_give_no_finding(open_folder: Path) -> None:
    assert findings(open_folder, Account.current()) == []


CHANGES: list[tuple[str, str, int, str, str]] = [
    (
        "private key",
        "tls.key",
        0o644,
        "private_key",
        "every user of this machine can read this secret: chmod o-r",
    ),
    (
        "private key of a group",
        "tls.key",
        0o660,
        "private_key",
        "the group of the file can change this secret",
    ),
    ("passwords", "users", 0o644, "file", "every user of this machine can read this secret"),
    ("tokens", "tokens", 0o604, "source", "every user of this machine can read this secret"),
    ("inventory", "hosts.csv", 0o666, "file", "every user of this machine can change it: chmod o-w"),
    ("operators' keys", "operators", 0o646, "manhole_keys", "every user of this machine can change it"),
    ("authorities", "ca.crt", 0o666, "ca", "every user of this machine can change it"),
    ("access log", "log/access", 0o666, "access_log", "every user of this machine can change it"),
]


@pytest.mark.parametrize(
    ("file", "mode", "key", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_what_others_can_do_is_a_warning(
    open_folder: Path, file: str, mode: int, key: str, words: str
) -> None:
    """The finding has the path and the command that corrects it."""
    text = files_in(open_folder)
    (open_folder / file).chmod(mode)
    (found,) = findings(open_folder, Account.current(), text)
    assert (found.verdict, found.name) == (CheckVerdict.WARNING, key)
    assert found.address == str(open_folder / file)
    assert words in found.finding


def test_a_file_in_a_closed_folder_is_not_exposed(open_folder: Path) -> None:
    """Other users cannot enter /etc/esxiproxy with mode 0750, so the modes of its files do not matter."""
    text = files_in(open_folder)
    (open_folder / "tls.key").chmod(0o644)
    (open_folder / "hosts.csv").chmod(0o666)
    open_folder.chmod(0o750)
    assert findings(open_folder, Account.current(), text) == []


def linked_key(folder: Path) -> str:
    """Return a configuration whose private key is a link into a closed folder, as those of certbot are."""
    text = files_in(folder)
    (folder / "archive").mkdir(mode=0o700)
    (folder / "tls.key").rename(folder / "archive/tls.key")
    (folder / "archive/tls.key").chmod(0o644)
    (folder / "tls.key").symlink_to("archive/tls.key")
    return text


def test_a_link_into_a_closed_folder_is_not_exposed(open_folder: Path) -> None:
    assert findings(open_folder, Account.current(), linked_key(open_folder)) == []


@needs_root
def test_the_closed_folder_behind_a_link_is_named(open_folder: Path, nobody: Account) -> None:
    found = {result.name: result for result in findings(open_folder, nobody, linked_key(open_folder))}
    assert f"cannot enter the folder {open_folder}/archive: " in found["private_key"].finding


def test_a_host_key_that_others_can_read_prevents_the_start(open_folder: Path) -> None:
    text = files_in(open_folder)
    (open_folder / "manhole_host_key").write_text("")
    (open_folder / "manhole_host_key").chmod(0o640)
    (found,) = findings(open_folder, Account.current(), text)
    assert (found.verdict, found.name) == (CheckVerdict.ERROR, "manhole_host_key")
    assert "the proxy does not start: remove the file" in found.finding


@needs_root
def test_files_of_root_that_the_proxy_cannot_use(open_folder: Path, nobody: Account) -> None:
    """Each with the command that gives the user the right."""
    found = {result.name: result for result in findings(open_folder, nobody)}
    group = nobody.group_name
    assert {name: result.verdict for name, result in found.items()} == dict.fromkeys(
        ("private_key", "file", "source", "access_log", "state", "manhole_host_key"), CheckVerdict.ERROR
    )
    key = open_folder / "tls.key"
    assert found["private_key"].finding == (
        f"the user nobody cannot read it: chgrp {group} {key} && chmod g+r {key}"
    )
    assert found["access_log"].finding == (
        f"the user nobody cannot write to it: chown nobody {open_folder}/log/access"
    )
    assert found["state"].finding.startswith(
        f"does not exist, and the user nobody cannot create it in {open_folder}/state: chgrp {group} "
    )


@needs_root
def test_a_folder_that_the_proxy_cannot_enter_is_named(open_folder: Path, nobody: Account) -> None:
    """The folder and not the file has to be changed."""
    text = files_in(open_folder)
    open_folder.chmod(0o700)
    found = findings(open_folder, nobody, text)
    assert {result.verdict for result in found} == {CheckVerdict.ERROR}
    assert all(f"cannot enter the folder {open_folder}: chgrp" in result.finding for result in found)


@needs_root
def test_folders_in_which_the_proxy_cannot_create_files(open_folder: Path, nobody: Account) -> None:
    """SQLite needs a journal beside its database; a log needs it after a rotation only."""
    (open_folder / "db").touch()
    (open_folder / "access").touch()
    for name in ("db", "access"):
        os.chown(open_folder / name, nobody.user, nobody.group)
        (open_folder / name).chmod(0o600)
    text = ini(listener(), upstream(9), state="sqlite:db", access_log="access")
    found = {result.name: result for result in findings(open_folder, nobody, text)}
    assert found["state"].verdict is CheckVerdict.ERROR
    assert "as SQLite does, so new consoles are refused (StateUnavailable)" in found["state"].finding
    assert found["access_log"].verdict is CheckVerdict.WARNING
    assert "opened again only if logrotate creates it" in found["access_log"].finding


@needs_root
def test_the_permissions_of_this_process_are_restored(nobody: Account) -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    with pytest.raises(KeyError), nobody.acting():
        assert (os.geteuid(), os.getegid()) == (nobody.user, nobody.group)
        raise KeyError
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_a_user_that_does_not_exist() -> None:
    with pytest.raises(UnknownAccount, match="no user 'no-such-user' on this machine"):
        Account.named("no-such-user")


def test_only_root_takes_on_the_permissions_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UnknownAccount, match="can be checked by root and by nobody only"):
        Account.named("nobody")


KEYS: list[tuple[str, str, str, bool]] = [
    ("PEM", "a.pem", "-----BEGIN PRIVATE KEY-----\n", True),
    ("RSA in PEM", "a.pem", "certificate\n-----BEGIN RSA PRIVATE KEY-----\n", True),
    ("public key", "a.pem", "-----BEGIN PUBLIC KEY-----\n", False),
    ("HMAC", "kid.hs256.key", "secret", True),
    (
        "private JWK",
        "set.json",
        json.dumps({"keys": [{"kty": "OKP", "x": "a"}, {"kty": "OKP", "d": "b"}]}),
        True,
    ),
    ("secret JWK", "set.json", json.dumps({"keys": [{"kty": "oct", "k": "b"}]}), True),
    ("public JWK", "set.json", json.dumps({"keys": [{"kty": "OKP", "x": "a"}]}), False),
    ("other JSON", "set.json", "[1]", False),
    ("broken JSON", "set.json", "{" * 100_000, False),
]


@pytest.mark.parametrize(
    ("name", "content", "expected"), [row[1:] for row in KEYS], ids=[row[0] for row in KEYS]
)
def test_a_file_is_secret_by_its_content(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    """A set of public keys may be readable by all."""
    (tmp_path / name).write_text(content)
    assert holds_key(tmp_path / name) is expected


def test_the_files_in_a_folder_are_checked_each(open_folder: Path) -> None:
    """A folder of link keys: the private one is secret, the public one is not."""
    (open_folder / "keys").mkdir()
    make = Authority(open_folder).server("a")
    (open_folder / "keys/one.es256.pem").write_text(make.key_path.read_text())
    (open_folder / "keys/one.es256.pem").chmod(0o644)
    public = make.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (open_folder / "keys/two.es256.pem").write_bytes(public)
    text = ini(
        listener(upstream=None, router="issued"),
        template(verify="none"),
        router(
            "issued",
            "links",
            keys="keys",
            issuer="i",
            audience="a",
            template="esxi",
            allow="10.0.0.0/8",
            locate="path:/c/{link}",
        ),
    )
    (found,) = findings(open_folder, Account.current(), text)
    assert (found.section, found.name) == ("router issued", "keys")
    assert found.address.endswith("keys/one.es256.pem")
    assert "can read this secret" in found.finding


# [admin]


def admin_in(folder: Path) -> str:
    """Return a configuration whose [admin] names a file of every kind."""
    tls = Authority(folder).server("tls")
    tls.key_path.chmod(0o600)
    (folder / "users").write_text("alice:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbb.\n")
    (folder / "users").chmod(0o600)
    for each in ("run", "log"):
        (folder / each).mkdir()
    (folder / "log/audit").touch(0o600)
    admin = f"""[admin]
socket = run/admin.sock
audit_log = log/audit
listen = 127.0.0.1:9180
certificate = {tls.path}
private_key = {tls.key_path}
authenticator = staff
viewers = alice
"""
    return admin + ini(listener(), upstream(9), authenticator("staff", "htpasswd", file="users"))


def test_the_files_of_admin_that_are_as_they_should_be(open_folder: Path) -> None:
    assert findings(open_folder, Account.current(), admin_in(open_folder)) == []


@pytest.mark.parametrize(
    ("file", "mode", "key", "words"),
    [
        ("tls.key", 0o644, "private_key", "every user of this machine can read this secret: chmod o-r"),
        ("log/audit", 0o666, "audit_log", "every user of this machine can change it: chmod o-w"),
        ("users", 0o604, "file", "every user of this machine can read this secret"),
    ],
)
def test_what_others_can_do_with_the_files_of_admin(
    open_folder: Path, file: str, mode: int, key: str, words: str
) -> None:
    text = admin_in(open_folder)
    (open_folder / file).chmod(mode)
    (found,) = findings(open_folder, Account.current(), text)
    assert (found.verdict, found.name) == (CheckVerdict.WARNING, key)
    assert found.section == ("authenticator staff" if key == "file" else "admin")
    assert words in found.finding


@needs_root
def test_files_of_admin_that_the_proxy_cannot_use(open_folder: Path, nobody: Account) -> None:
    """The socket is created in its folder. A socket that a proxy of root has left does not matter."""
    text = admin_in(open_folder)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(open_folder / "run/admin.sock"))
    found = {result.name: result for result in findings(open_folder, nobody, text)}
    assert {name: result.verdict for name, result in found.items()} == dict.fromkeys(
        ("socket", "audit_log", "private_key", "file"), CheckVerdict.ERROR
    )
    group, folder = nobody.group_name, open_folder / "run"
    assert found["socket"].finding == (
        f"the user nobody cannot create the socket in {folder}: "
        f"chgrp {group} {folder} && chmod g+rwx {folder}"
    )
    assert found["socket"].address == f"{folder}/admin.sock"
    os.chown(folder, nobody.user, nobody.group)
    assert "socket" not in {result.name for result in findings(open_folder, nobody, text)}


@pytest.mark.parametrize(("days", "verdict"), [(90, CheckVerdict.OK), (-1, CheckVerdict.ERROR)])
def test_the_certificate_of_admin(tmp_path: Path, days: int, verdict: CheckVerdict) -> None:
    text = admin_in(tmp_path)
    Authority(tmp_path).server("tls", not_before=-100 * DAY, not_after=days * DAY)
    (tmp_path / "proxy.ini").write_text(text)
    (found,) = certificate_files(load(tmp_path / "proxy.ini"), datetime.now(UTC))
    assert (found.verdict, found.section, found.name) == (verdict, "admin", "certificate")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("redis://r1", "state_password_file"),
        ("redis+sentinel://s1/lab", "state_password_file"),
        ("redis+sentinel://s1/lab", "state_sentinel_password_file"),
    ],
)
def test_the_passwords_of_redis_are_secrets(open_folder: Path, url: str, key: str) -> None:
    password = open_folder / "password"
    password.write_text("pa55word\n")
    password.chmod(0o644)
    text = ini(listener(), upstream(9), state=url, **{key: password})
    (found,) = findings(open_folder, Account.current(), text)
    assert found.verdict is CheckVerdict.WARNING and "can read this secret" in found.finding
    password.chmod(0o600)
    assert findings(open_folder, Account.current(), text) == []


def test_the_password_of_vcenter_is_a_secret_file(tmp_path: Path) -> None:
    (tmp_path / "vc.password").write_text("pa55word")
    section = "[vsphere dc1]\nurl = https://vc\nuser = u\npassword_file = vc.password\n"
    (tmp_path / "proxy.ini").write_text(ini(listener(), upstream("ws://10.0.0.1")) + section)
    (found,) = (file for file in files_of(load(tmp_path / "proxy.ini")) if file.section == "vsphere dc1")
    assert (found.key, found.path, found.is_secret) == ("password_file", tmp_path / "vc.password", True)
