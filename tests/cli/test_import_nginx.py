"""``esxiproxy import-nginx``."""

import argparse
import builtins
import sys

import pytest

from esxiproxy.cli import import_nginx

UPGRADE = "proxy_set_header Upgrade $http_upgrade;"
PLAIN = f"server {{ listen 80; location / {{ proxy_pass http://192.0.2.10; {UPGRADE} }} }}"
SECURE = PLAIN.replace("http://", "https://")
INI = """\
; From nginx.conf, by esxiproxy import-nginx.

[listener port-80]
; nginx.conf:1
listen = 0.0.0.0:80
http = forward
upstream = 192.0.2.10-80

[upstream 192.0.2.10-80]
; nginx.conf:1
url = ws://192.0.2.10:80
origin = client  ; as nginx forwards it
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    parser = argparse.ArgumentParser()
    import_nginx.add_arguments(parser)
    return import_nginx.run(parser.parse_args(arguments))


def test_what_is_carried_over_as_a_whole_exits_with_0(folder, capsys):
    (folder / "nginx.conf").write_text(PLAIN)
    assert run("nginx.conf") == 0
    assert capsys.readouterr() == (INI, "")


def test_what_is_not_is_named_on_standard_error_and_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(f"http {{\n{PLAIN}\ngzip on; }}")
    assert run("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert out == INI.replace("nginx.conf:1", "nginx.conf:2")
    assert error == "nginx.conf:3: gzip: esxiproxy forwards answers with the upstream's compression\n"


def test_a_thumbprint_to_be_filled_in_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(SECURE)
    assert run("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "verify = pin\n" in out and "fill in its thumbprint" in error


def test_an_insecure_upstream_can_be_kept(folder, capsys):
    (folder / "nginx.conf").write_text(SECURE)
    assert run("--keep-insecure", "nginx.conf") == 0
    out, error = capsys.readouterr()
    assert "verify = none  ; as in nginx: the host's certificate is not verified\n" in out and not error


def test_nothing_to_carry_over_prints_nothing(folder, capsys):
    (folder / "nginx.conf").write_text("server { return 204; }")
    assert run("nginx.conf") == 1
    assert capsys.readouterr().out == ""


def test_no_nginx_configuration_exits_with_2(folder, capsys):
    (folder / "nginx.conf").write_text("server {")
    assert run("nginx.conf") == 2
    assert capsys.readouterr() == ("", 'nginx.conf:1: unexpected end of file, expecting "}"\n')
    assert run("gone.conf") == 2
    assert capsys.readouterr() == ("", "gone.conf:1: No such file or directory: 'gone.conf'\n")


def test_wrong_usage_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2


def test_crossplane_is_asked_for_where_it_is_missing(folder, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "crossplane":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "crossplane", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert run("nginx.conf") == 2
    assert capsys.readouterr().err == "import-nginx needs crossplane: pip install 'esxiproxy[nginx]'\n"


def test_a_ticket_in_the_file_is_not_repeated(folder, capsys):
    (folder / "nginx.conf").write_text("server { location / { proxy_pass http://e/ticket/QXZJKVWY; } }")
    assert run("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "QXZJ" not in out + error and "/ticket/***" in error


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "Cookie", "X-Csrf-Token"])
@pytest.mark.parametrize(
    "value, reason",
    [
        ('""', "is not removed from the client's request"),
        (
            '"Basic QXZJKVWY"',
            "is not sent: only X-Forwarded-For, -Proto and -Host are added, and they always are",
        ),
    ],
)
def test_a_complaint_of_a_field_with_a_secret_is_shown_without_it(folder, capsys, name, value, reason):
    (folder / "nginx.conf").write_text(
        f"server {{ location / {{ proxy_pass http://e; proxy_set_header {name} {value}; {UPGRADE} }} }}"
    )
    assert run("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert error == f"nginx.conf:1: proxy_set_header: {name} {reason}\n"
    assert "QXZ" not in out + error
