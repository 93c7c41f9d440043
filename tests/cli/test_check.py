"""``esxiproxy check``."""

import shutil
from pathlib import Path

import pytest

from esxiproxy.cli.main import NAMES, main, subcommand
from tests.support import config
from tests.support.certificates import self_signed

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a copy of ``conf/`` with good certificates, as the working directory."""
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/tls").mkdir(exist_ok=True)
    own = self_signed(tmp_path, "own")
    shutil.copy(own.path, tmp_path / "conf/tls/9-rui.crt")
    shutil.copy(own.key_path, tmp_path / "conf/tls/9-rui.key")
    shutil.copy(own.path, tmp_path / "conf/tls/site-ca.pem")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_a_good_file_is_ok(folder, capsys):
    assert main(["check", "conf/proxy.ini"]) == 0
    assert capsys.readouterr() == ("conf/proxy.ini: ok, 3 listeners, 2 upstreams\n", "")


def test_one_listener_is_counted_in_the_singular(folder, capsys):
    Path("x.ini").write_text(config.listener("a") + config.upstream("ws://192.0.2.1"))
    assert main(["check", "x.ini"]) == 0
    assert capsys.readouterr().out == "x.ini: ok, 1 listener, 1 upstream\n"


def test_each_problem_is_a_line_on_standard_error(folder, capsys):
    Path("conf/tls/9-rui.crt").unlink()
    edit("conf/proxy.ini", "drain_timeout = 30s", "drain_timeout = 30")
    assert main(["check", "conf/proxy.ini"]) == 1
    lines = Path("conf/proxy.ini").read_text().splitlines()
    drain, certificate = (
        next(number for number, line in enumerate(lines, 1) if line.startswith(key))
        for key in ("drain_timeout", "certificate")
    )
    assert capsys.readouterr() == (
        "",
        f"conf/proxy.ini:{drain}: [proxy] drain_timeout: "
        "'30' is no duration: write 500ms, 30s, 10m, 1h or 2d\n"
        f"conf/proxy.ini:{certificate}: [listener secure] certificate: no such file: tls/9-rui.crt\n",
    )


def test_a_key_of_another_certificate_is_found_at_the_certificates_line(folder, capsys):
    shutil.copy(self_signed(folder, "other").key_path, "conf/tls/9-rui.key")
    assert main(["check", "conf/proxy.ini"]) == 1
    error = capsys.readouterr().err
    lines = Path("conf/proxy.ini").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("certificate"))
    assert error.startswith(f"conf/proxy.ini:{line}: [listener secure] certificate: the key in ")
    assert "does not belong to the certificate" in error and error.count("\n") == 1


def test_authorities_that_cannot_be_read_are_found(folder, capsys):
    Path("conf/tls/site-ca.pem").write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    assert main(["check", "conf/authority.ini"]) == 1
    assert "[upstream esxi] ca: " in capsys.readouterr().err


@pytest.mark.parametrize("key", ["router", "authenticator"])
def test_a_plugin_that_is_not_installed_is_found(folder, capsys, key):
    edit("conf/pin.ini", "upstream = esxi7", f"upstream = esxi7\n{key} = nobodys")
    assert main(["check", "conf/pin.ini"]) == 1
    assert (
        f"[listener one] {key}: no [{key} nobodys]: 'nobodys' is no type of {key}: installed types are "
        in capsys.readouterr().err
    )


def test_a_service_that_is_not_installed_is_found(folder, capsys):
    edit("conf/pin.ini", "[listener one]", "[proxy]\nservices = nobodys\n[listener one]")
    assert main(["check", "conf/pin.ini"]) == 1
    assert "[proxy] services: no plugin 'nobodys'" in capsys.readouterr().err


def test_several_files_are_checked_each_by_itself(folder, capsys):
    assert main(["check", "conf/pin.ini", "gone.ini", "conf/ipv6.ini"]) == 1
    assert capsys.readouterr() == (
        "conf/pin.ini: ok, 2 listeners, 2 upstreams\nconf/ipv6.ini: ok, 2 listeners, 1 upstream\n",
        "gone.ini:1: no such file\n",
    )


@pytest.mark.parametrize("arguments", [[], ["check"], ["chekc", "x"], ["check", "--what", "x"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: esxiproxy")


def test_help_names_every_subcommand(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # argparse would wrap a help text, at another word in each Python
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(module.NAME in out and module.HELP in out for module in map(subcommand, NAMES))


BELIEVES = config.listener("a", proxy_protocol=True) + config.upstream("ws://192.0.2.1")


def test_a_warning_is_reported_and_is_no_error(folder, capsys):
    Path("x.ini").write_text(BELIEVES)
    assert main(["check", "x.ini"]) == 0
    out, err = capsys.readouterr()
    assert out == "x.ini: ok, 1 listener, 1 upstream, 1 warning\n"
    assert err.startswith("x.ini:4: warning: [listener a] proxy_protocol: ") and err.count("\n") == 1


def test_a_warning_is_an_error_with_strict(folder, capsys):
    Path("x.ini").write_text(BELIEVES)
    assert main(["check", "--strict", "x.ini"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("x.ini:4: warning: ")
    Path("x.ini").write_text(BELIEVES.replace("yes", "no"))
    assert main(["check", "--strict", "x.ini"]) == 0


ADMIN = (
    "[admin]\nlisten = 127.0.0.1:9180\n[listener a]\nlisten = :80\nupstream = u\n"
    "[upstream u]\nurl = ws://192.0.2.1\n"
)


def test_a_page_without_its_library_is_a_warning(folder, capsys, monkeypatch):
    Path("x.ini").write_text(ADMIN)
    monkeypatch.setattr("esxiproxy.admin.page_library.missing", lambda: ["htm-preact.js"])
    assert main(["check", "x.ini"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("x.ini:2: warning: [admin] listen: the page lacks its front-end library")
    assert "python -m esxiproxy.admin.page_library" in err and err.count("\n") == 1
    Path("x.ini").write_text(ADMIN.replace("listen = 127.0.0.1:9180", "probe_listen = 127.0.0.1:9180"))
    assert main(["check", "--strict", "x.ini"]) == 0, "the terminal needs no page"
    Path("x.ini").write_text(ADMIN)
    monkeypatch.setattr("esxiproxy.admin.page_library.missing", list)
    assert main(["check", "--strict", "x.ini"]) == 0


def test_a_warning_is_reported_beside_the_errors_of_plugins(folder, capsys):
    Path("x.ini").write_text(
        BELIEVES.replace("upstream = esxi1", "upstream = esxi1\nauthenticator = nobodys")
    )
    assert main(["check", "x.ini"]) == 1
    assert [line.split(" ")[0] for line in capsys.readouterr().err.splitlines()] == ["x.ini:4:", "x.ini:5:"]


def test_authenticators_that_know_nobody_are_warnings(folder, capsys):
    """A certificate is asked for by a listener, and a provider of OpenID Connect is asked by the portal."""
    Path("secret").write_text("a secret")
    sso = {"issuer": "https://idp.example.com", "client_id": "x", "client_secret_file": "secret"}
    text = (
        "[admin]\nlisten = 127.0.0.1:0\nauthenticator = cards, sso\noperators = ada\n"
        + config.authenticator("cards", "client_cert")
        + config.authenticator("sso", "oidc", **sso)
        + config.listener("a", authenticator="sso")
        + config.upstream("ws://192.0.2.1")
    )
    Path("x.ini").write_text(text)
    assert main(["check", "x.ini"]) == 0
    warnings = [line.partition(" warning: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in warnings if "authenticator: " in line] == [
        "[admin] authenticator: cards: listen asks nobody for a certificate, so nobody can log in with it",
        "[admin] authenticator: sso: it logs in users of the portal alone, so nobody can log in here with it",
        "[listener a] authenticator: sso: knows nobody by itself: name it in providers of a session, and the "
        "session here",
    ]
