"""``esxiproxy link``."""

import io
import json
import sqlite3
import time
from contextlib import closing

import pytest

from esxiproxy.app import preflight
from esxiproxy.authenticators import anonymous
from esxiproxy.cli.main import main
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.link import claims_in, read_claims, unsealed_claims
from esxiproxy.core.link_keys import read_keys
from esxiproxy.core.redaction import redact_text
from esxiproxy.core.sealing import key_of
from esxiproxy.core.session.command import Command, CommandKind, Selector, SelectorKind
from esxiproxy.routers import links, static
from esxiproxy.routers.links import OPAQUE_SPACE, REVOKED_SPACE
from esxiproxy.state.sqlite_store import SqliteStore
from esxiproxy.state.times import Times
from tests.support import config
from tests.support.links import AUDIENCE, ISSUER, PIN, key_folder
from tests.support.plugin_types import types


def issued(name, **keys):
    """Return the section of a router of links, whose links are for the template `esxi`."""
    keys = {"issuer": ISSUER, "audience": AUDIENCE, "template": "esxi", "allow": "192.0.2.0/24", **keys}
    return config.router(name, "links", keys="keys", **keys)


CONFIG = config.ini(
    config.listener(
        upstream=None, router="issued, hidden, unsigned", public_url="https://consoles.example.com/base"
    ),
    config.listener("two", "esxi", router="hidden, static"),
    issued("issued", signing_key="ed", allow="192.0.2.0/24, 2001:db8::/32"),
    issued("hidden", locate="query:link", opaque=True),
    issued("unsigned"),
    issued("unused"),
    config.upstream("wss://192.0.2.1", "esxi"),
    state="sqlite:state.db",
)
TO = ("--to", "esxi1.example.com/ticket/SECRET-TICKET")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a configuration and its keys, as the working directory."""
    known = types([links.TYPE, static.TYPE], [anonymous.TYPE])
    monkeypatch.setattr(preflight, "installed_types", lambda: known)
    assert set(known) == {SectionKind.ROUTER, SectionKind.AUTHENTICATOR}
    (tmp_path / "x.ini").write_text(CONFIG)
    key_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(folder):
    """Return the state of a running proxy."""
    with closing(SqliteStore(folder / "state.db", "proxy", Times.of_this_machine())) as store:
        store.renew()
        yield store


def edit(folder, old, new):
    text = (folder / "x.ini").read_text()
    assert old in text
    (folder / "x.ini").write_text(text.replace(old, new))


def link(*arguments, router="issued"):
    return main(["link", "--config", "x.ini", "--router", router, *arguments])


def read(folder, token):
    claims = claims_in(token.encode(), read_keys(folder / "keys"), ISSUER, AUDIENCE)
    return read_claims(claims, ISSUER, AUDIENCE, time.time())


def made(folder, capsys, *arguments):
    assert link(*arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    begin = "https://consoles.example.com/base/c/"
    assert out.startswith(begin) and out.count("\n") == 1
    return read(folder, out.strip().removeprefix(begin))


def refused(capsys, *arguments, router="issued"):
    assert link(*arguments, router=router) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("esxiproxy link: ") and err.count("\n") == 1
    assert "SECRET" not in err
    return err.removeprefix("esxiproxy link: ")


def test_a_link_works_once_for_five_minutes(folder, capsys):
    before = time.time()
    found = made(folder, capsys, *TO)
    assert (found.host, found.port, found.path) == ("esxi1.example.com", 443, b"/ticket/SECRET-TICKET")
    assert (found.once, found.reuse, found.subject, found.network) == (True, 0.0, None, None)
    assert before <= found.issued <= time.time() and found.expires - found.issued == pytest.approx(300)
    assert found.issued != int(found.issued)


def test_options_become_claims(folder, capsys):
    options = (
        "--subject",
        "alice",
        "--pin",
        PIN,
        "--net",
        "198.51.100.0/24",
        "--reuse",
        "60s",
        "--ttl",
        "1h",
    )
    found = made(folder, capsys, *TO, *options, "--listener", "one")
    assert (found.subject, str(found.network), found.reuse) == ("alice", "198.51.100.0/24", 60.0)
    assert [pin.digest for pin in found.pins] == ["ab" * 32]
    assert found.expires - found.issued == pytest.approx(3600)
    assert not made(folder, capsys, *TO, "--many").once
    assert made(folder, capsys, *TO, "--once").once


TARGETS = {
    "esxi1": ("esxi1", 443, b"/"),
    "ESXi1.example.com:9443": ("esxi1.example.com", 9443, b"/"),
    "192.0.2.7/a?b=c:d/e": ("192.0.2.7", 443, b"/a?b=c:d/e"),
    "[2001:DB8::7]:443/x": ("2001:db8::7", 443, b"/x"),
    "[2001:db8::7]": ("2001:db8::7", 443, b"/"),
}


@pytest.mark.parametrize("text", TARGETS)
def test_a_target_is_host_port_and_path(folder, capsys, text):
    found = made(folder, capsys, "--to", text)
    assert (found.host, found.port, found.path) == TARGETS[text]


def test_a_template_without_tls_has_port_80(folder, capsys):
    edit(folder, "wss://", "ws://")
    assert made(folder, capsys, *TO).port == 80
    assert "ws:// without TLS" in refused(capsys, *TO, "--pin", PIN)


def test_a_target_may_stand_on_standard_input(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("esxi1:444/ticket/SECRET\n"))
    found = made(folder, capsys, "--to", "-")
    assert (found.host, found.port, found.path) == ("esxi1", 444, b"/ticket/SECRET")


BAD_TARGETS = [
    *("127.1", "0x7f.1", "2130706433", "a@b", "a@b:443", "127.0.0.1.", "%00", "a b", "", ":443", "::1"),
    *("[::1", "[a]", "[::1]x", "[::ffff:192.0.2.7]:443", "a:0", "a:65536", "a:x", "a:", "a:-1", "a:\u0661"),
    *("https://a/SECRET", "/SECRET", "[2001:db8::7]:", "a:443:443", "192.0.2.7/\u00e9", "192.0.2.7/a#SECRET"),
    *("192.0.3.7", "127.0.0.1", "[::1]", "[2001:db9::1]"),
]


@pytest.mark.parametrize("text", BAD_TARGETS)
def test_an_odd_target_is_refused(folder, capsys, text):
    assert refused(capsys, "--to", text)


REFUSED = {
    "an unknown router": (TO, "gone", "no [router gone] with type = links: there is issued, hidden"),
    "another type": (TO, "static", "no [router static]"),
    "no listener": (TO, "unused", "no listener names the [router unused]"),
    "several listeners": (TO, "hidden", "choose with `listener`: one, two"),
    "no public URL": ((*TO, "--listener", "two"), "hidden", "[listener two] has no public_url"),
    "another listener": ((*TO, "--listener", "two"), "issued", "no [listener two] names"),
    "no signing key": (TO, "unsigned", "[router unsigned] has no signing_key"),
    "no network": ((*TO, "--net", "here"), "issued", "claim net is not valid"),
    "a pin": ((*TO, "--pin", "md5:00"), "issued", "claim pin is not valid"),
    "a subject": ((*TO, "--subject", ""), "issued", "claim sub is not valid"),
    "too long": ((*TO, "--subject", "x" * 9, "--to", "a/" + "x" * 4000), "issued", "may have 4096"),
    "not allowed": (("--to", "192.0.3.1"), "issued", "192.0.3.1 is not in `allow`"),
    "no state yet": ((*TO, "--listener", "one"), "hidden", "start the proxy once"),
    "no state to revoke in": (("--revoke", "abc"), "issued", "start the proxy once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_remedy(folder, capsys, case):
    arguments, router, text = REFUSED[case]
    assert text in refused(capsys, *arguments, router=router)


def test_a_template_with_pins_needs_one(folder, capsys):
    edit(folder, "[upstream esxi]", "[upstream pinned]\nverify = pin\n[upstream esxi]")
    edit(folder, "esxi\nallow = 192.0.2.0/24, 2001", "pinned\nallow = 192.0.2.0/24, 2001")
    assert "has no pin" in refused(capsys, *TO)
    assert made(folder, capsys, *TO, "--pin", PIN).pins


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        ((*TO, "--listener", "one"), "make the link on the admin page or with the admin API"),
        (("--revoke", "abc"), "esxiproxy links --revoke ID --reason TEXT asks the proxy"),
    ],
)
def test_links_in_redis_are_made_and_revoked_by_the_running_proxy(folder, capsys, arguments, instead):
    edit(folder, "sqlite:state.db", "redis://r1")
    told = refused(capsys, *arguments, router="hidden")
    assert f"stored in Redis, which this command does not connect to: {instead}" in told


@pytest.mark.parametrize("arguments", [(*TO, "--listener", "one"), ("--revoke", "abc")])
def test_a_state_in_memory_cannot_be_opened(folder, capsys, arguments):
    edit(folder, "sqlite:state.db", "memory:")
    told = refused(capsys, *arguments, router="hidden")
    assert "in the memory of the proxy: write state = sqlite:PATH in [proxy] of x.ini" in told


def test_a_file_that_is_no_state_is_reported(folder, capsys):
    with closing(sqlite3.connect(folder / "state.db")) as other:
        other.execute("CREATE TABLE others (x)")
        other.execute("PRAGMA application_id = 7")
        other.commit()
    assert "state.db" in refused(capsys, "--revoke", "abc")


def test_an_opaque_link_stands_in_the_state(folder, store, capsys):
    assert link(*TO, "--listener", "one", "--json", router="hidden") == 0
    told = json.loads(capsys.readouterr().out)
    begin = "https://consoles.example.com/base/?link="
    opaque = told["url"].removeprefix(begin)
    assert told["url"].startswith(begin) and len(opaque) == 22 and told["id"] != opaque
    stored = store.get(OPAQUE_SPACE, key_of(opaque))
    found = read_claims(unsealed_claims(stored, opaque, "router hidden"), ISSUER, AUDIENCE, time.time())
    assert (found.id, found.path, found.expires) == (told["id"], b"/ticket/SECRET-TICKET", told["expires"])
    assert b"SECRET" not in (folder / "state.db").read_bytes()


def test_a_url_for_vmware_remote_console(folder, store, capsys, authority):
    certificate = authority.server()
    edit(folder, "opaque = yes", "opaque = yes\nlocate = path:/ticket/{link}")
    edit(folder, "locate = query:link\n", "")
    edit(folder, "consoles.example.com/base", "consoles.example.com:8443")
    options = ("--listener", "one", "--vmrc", "--vmx", "[ds] a b/ü.vmx")
    asked = (*TO, *options)
    assert "write public_certificate in [listener one]" in refused(capsys, *asked, router="hidden")
    edit(folder, "[listener one]", f"[listener one]\npublic_certificate = {certificate.path}")
    assert link(*asked, router="hidden") == 0
    begin, url = "vmrc://consoles.example.com:8443/?mksticket=", capsys.readouterr().out.strip()
    opaque, _, rest = url.removeprefix(begin).partition("&")
    assert url.startswith(begin) and rest == (
        f"thumbprint={certificate.sha1}&path=%5Bds%5D%20a%20b%2F%C3%BC.vmx"
    )
    found = unsealed_claims(store.get(OPAQUE_SPACE, key_of(opaque)), opaque, "router hidden")
    assert read_claims(found, ISSUER, AUDIENCE, time.time()).path == b"/ticket/SECRET-TICKET"
    assert opaque not in redact_text(f"it was {url}")

    # The default port is written, and the path of the file may be left out.
    edit(folder, "consoles.example.com:8443", "consoles.example.com")
    assert link(*TO, "--listener", "one", "--vmrc", "--json", router="hidden") == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told) == ["expires", "id", "url", "vmrc"]
    assert told["url"].startswith("https://consoles.example.com/ticket/")
    link_text = told["url"].rpartition("/")[2]
    assert told["vmrc"] == (
        f"vmrc://consoles.example.com:443/?mksticket={link_text}&thumbprint={certificate.sha1}"
    )
    assert "only with vmrc" in refused(capsys, *TO, "--vmx", "a", "--listener", "one", router="hidden")


def test_links_that_vmware_remote_console_cannot_open_are_refused(folder, store, capsys, authority):
    assert "opaque = yes" in refused(capsys, *TO, "--vmrc")
    assert "locate = path:/ticket/{link}" in refused(
        capsys, *TO, "--vmrc", "--listener", "one", router="hidden"
    )
    edit(folder, "locate = query:link", "locate = path:/ticket/{link}")
    assert "public_url = https://HOST" in refused(capsys, *TO, "--vmrc", "--listener", "one", router="hidden")


def test_json_has_the_id(folder, capsys):
    assert link(*TO, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told) == ["expires", "id", "url"]
    assert read(folder, told["url"].rpartition("/")[2]).id == told["id"]


@pytest.mark.parametrize(
    ("place", "begin", "key"),
    [
        ("cookie:console", "cookie: console=", "cookie"),
        ("subprotocol", "subprotocol: esxiproxy.link.", "subprotocol"),
    ],
)
def test_a_link_that_is_not_in_the_url_is_shown_beside_it(folder, capsys, place, begin, key):
    edit(folder, "signing_key = ed", f"signing_key = ed\nlocate = {place}")
    assert link(*TO) == 0
    url, field = capsys.readouterr().out.splitlines()
    assert url == "https://consoles.example.com/base/" and read(folder, field.removeprefix(begin))
    assert link(*TO, "--json") == 0
    assert json.loads(capsys.readouterr().out)[key].startswith(begin.partition(": ")[2])


def test_a_revoked_link_ends_its_consoles(folder, store, capsys):
    assert link("--revoke", "link-1") == 0
    assert capsys.readouterr() == ("revoked link-1\n", "")
    assert store.get(REVOKED_SPACE, key_of("link-1")) == "link-1"
    selector = Selector(SelectorKind.LINK, "link-1")
    (command,) = store.commands()
    assert command == Command(CommandKind.KILL, reason="the link was revoked", selector=selector)
    assert link("--revoke", "link-1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": "link-1"}


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "\u00e9", "a\nb"])
def test_an_invalid_id_is_reported(folder, store, capsys, text):
    assert "no id of a link" in refused(capsys, "--revoke", text)


def test_the_command_leaves_no_holder(folder, store, capsys):
    assert link("--revoke", "link-1") == 0
    with closing(sqlite3.connect(folder / "state.db")) as database:
        assert database.execute("SELECT holder FROM holders").fetchall() == [("proxy",)]


def test_a_bad_configuration_is_reported(folder, capsys):
    edit(folder, "signing_key = ed", "signing_key = gone")
    assert link(*TO) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("x.ini:21: [router issued] signing_key: no key 'gone'")


WRONG_USAGE = [
    (),
    ("--to", "a", "--revoke", "b"),
    (*TO, "--ttl", "5"),
    (*TO, "--ttl", "366d"),
    (*TO, "--reuse", "off"),
    (*TO, "--once", "--many"),
    (*TO, "--many", "--reuse", "60s"),
]


@pytest.mark.parametrize("arguments", WRONG_USAGE)
def test_wrong_usage_exits_with_2(folder, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        link(*arguments)
    assert caught.value.code == 2
    assert "SECRET" not in capsys.readouterr().err
