"""The section [admin]: its values, its defaults and its mistakes."""

from pathlib import Path

import pytest

from esxiproxy.core.config import admin as admin_section
from esxiproxy.core.config.errors import ConfigError
from esxiproxy.core.config.listen_address import LONGEST_PATH
from esxiproxy.core.config.loader import load
from esxiproxy.core.config.model import ADMIN_LISTEN, ADMIN_MANHOLE, ADMIN_PROBE, ADMIN_SOCKET
from tests.support.plugin_types import PluginType, types

REST = "[listener one]\nlisten = :80\nupstream = u\n[upstream u]\nurl = wss://192.0.2.10\n"
TYPES = types([PluginType("static")], [PluginType("anonymous"), PluginType("basic")])


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.setattr(admin_section, "RUNTIME_FOLDER", tmp_path / "run")

    def read(keys):
        return load(tmp_path / "x.ini", f"[admin]\n{keys}{REST}".encode(), TYPES)

    return read


@pytest.fixture
def problems(read):
    def problems(keys):
        with pytest.raises(ConfigError) as caught:
            read(keys)
        return [(problem.key, problem.text) for problem in caught.value.problems if problem.is_error]

    return problems


def test_an_empty_section_has_a_socket_beside_the_configuration(read, tmp_path):
    admin = read("").admin
    assert admin.socket == tmp_path / "admin.sock"
    assert [name for name, _ in admin.endpoints] == [ADMIN_SOCKET]
    assert admin.endpoints[0][1].endswith("admin.sock:mode=600")
    assert (admin.listen, admin.probe_listen, admin.audit_log) == (None, None, None)
    assert admin.names == {"localhost", "127.0.0.1", "[::1]"}


def test_the_socket_of_the_manhole_stands_beside_it(tmp_path):
    (tmp_path / "keys").write_text("")
    manhole = "[proxy]\nmanhole = 2222\nmanhole_keys = keys\n"

    def read(name, proxy=manhole):
        return load(tmp_path / "x.ini", f"{proxy}[admin]\nsocket = {name}\n{REST}".encode(), TYPES)

    for name, beside in (("admin.sock", "manhole.sock"), ("b.sock", "b.sock.manhole")):
        assert (ADMIN_MANHOLE, f"unix:{tmp_path}/{beside}:mode=600") in read(name).admin_endpoints
        assert ADMIN_MANHOLE not in dict(read(name, "").admin_endpoints)
    longest = "x" * (LONGEST_PATH - len(str(tmp_path)) - 1)
    assert read(longest, "").admin.socket.name == longest
    with pytest.raises(ConfigError, match="the socket of the manhole beside it has at most 107 bytes"):
        read(longest)


def test_the_socket_is_in_the_runtime_folder_where_that_exists(read, tmp_path):
    (tmp_path / "run").mkdir()
    assert read("").admin.socket == tmp_path / "run" / "admin.sock"
    assert read("socket = here.sock\n").admin.socket == tmp_path / "here.sock"


def test_a_file_without_the_section_has_no_admin_service(tmp_path):
    assert load(tmp_path / "x.ini", REST.encode(), TYPES).admin is None


def test_every_address_is_an_endpoint(read):
    admin = read(
        "listen = 192.0.2.1:9180\nprobe_listen = :9181\nauthenticator = basic\n"
        "names = Admin.Example.com, ::1\n"
        "viewers = alice, @staff\noperators = sso/root, @domain admins\naudit_log = audit.log\n"
    ).admin
    assert [name for name, _ in admin.endpoints] == [ADMIN_SOCKET, ADMIN_LISTEN, ADMIN_PROBE]
    assert admin.names == {"admin.example.com", "[::1]"}
    assert admin.viewers == {"alice", "@staff"}
    assert admin.operators == {"sso/root", "@domain admins"}
    assert [each.section for each in admin.authenticators] == ["authenticator basic"]


def test_a_group_may_open_the_socket_whose_endpoint_stays(read):
    admin = read("socket_group = root\n").admin
    assert admin.socket_group == "root" and admin.endpoints == read("").admin.endpoints


def test_colons_in_the_path_of_the_socket_are_escaped(read, tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (_, endpoint), *_ = read("socket = a:b/s\n").admin.endpoints
    assert "a\\:b" in endpoint


@pytest.mark.parametrize(
    ("keys", "key", "part"),
    [
        ("listen = :9180\nnames = a\n", "listen", "needs an authenticator"),
        ("listen = :9180\nauthenticator = basic\n", "listen", "needs names"),
        ("viewers = a\n", "viewers", "needs a listen"),
        ("listen = 127.0.0.1:9\nviewers = a\n", "viewers", "needs an authenticator"),
        ("listen = 127.0.0.1:9\nprivate_key = k\n", "private_key", "needs a certificate"),
        ("listen = 127.0.0.1:9\nprobe_listen = :9\n", "probe_listen", "is the address of listen"),
        ("listen = 127.0.0.1:80\n", "listen", "is taken by [listener one]"),
        ("probe_listen = :80\n", "probe_listen", "is taken by [listener one]"),
        ("socket = none/x\n", "socket", "no such folder"),
        (f"socket = {'x' * 108}\n", "socket", "at most 107 bytes"),
        ("socket_group = no group of this name\n", "socket_group", "is no group of this machine"),
        ("audit_log = .\n", "audit_log", "is a folder"),
        ("audit_log = none/x\n", "audit_log", "no such folder"),
        ("listen = 127.0.0.1:9\nauthenticator = basic\nviewers = a,,b\n", "viewers", "is no name of a user"),
        ("listen = 127.0.0.1:9\nauthenticator = lost\n", "authenticator", "no [authenticator lost]"),
        ("listen = 127.0.0.1:9\nnames = a:80\n", "names", "'a:80'"),
        ("upstream = u\n", "upstream", "not a key of [admin]"),
    ],
)
def test_mistakes_are_named(problems, keys, key, part):
    ((found, _),) = [each for each in problems(keys) if part in each[1]]
    assert found == key


def test_a_name_after_admin_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match=r"takes no name: write \[admin\]"):
        load(tmp_path / "x.ini", f"[admin two]\n{REST}".encode(), TYPES)


def test_useless_settings_are_warnings(read):
    config = read("listen = 192.0.2.1:9\nauthenticator = basic\nnames = a\n")
    assert [(each.key, each.text[:24]) for each in config.warnings] == [
        ("listen", "has no certificate: pass"),
        ("authenticator", "nobody may see anything "),
    ]
    assert isinstance(config.admin.socket, Path)


def test_operators_without_a_login_are_a_warning(read):
    keys = "listen = 127.0.0.1:9\nauthenticator = basic, anonymous\noperators = root, anonymous\n"
    ((warning),) = read(keys).warnings
    assert (warning.key, "everybody who reaches listen is an operator" in warning.text) == ("operators", True)


def test_an_authenticator_that_knows_nobody_there_is_a_warning(tmp_path):
    cards = PluginType("cards")
    cards.unknown_on_admin = "nobody has a card"
    keys = "listen = 127.0.0.1:9\nauthenticator = cards, basic\nviewers = a\n"
    known = types([PluginType("static")], [PluginType("anonymous"), PluginType("basic"), cards])
    ((warning),) = load(tmp_path / "x.ini", f"[admin]\n{keys}{REST}".encode(), known).warnings
    assert (warning.key, warning.text) == ("authenticator", "cards: nobody has a card")
