"""``esxiproxy import-nginx``."""

import builtins
import sys

import pytest

from esxiproxy.cli import import_nginx
from tests.support.commands import import_nginx_command

UPGRADE = "proxy_set_header Upgrade $http_upgrade;"
PLAIN = f"server {{ listen 80; location / {{ proxy_pass http://192.0.2.10; {UPGRADE} }} }}"
SECURE = PLAIN.replace("http://", "https://")
MANY = (
    f"map $arg_host $esx {{ esx01 10.0.0.1:443; esx02 10.0.0.2:443; }}\nserver {{ listen 80; location / {{ "
    f"proxy_pass https://$esx; {UPGRADE} }} }}"
)
ANY = f"server {{ listen 80; location / {{ proxy_pass https://$arg_host.internal; {UPGRADE} }} }}"
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


def test_a_complete_translation_exits_with_0(folder, capsys):
    (folder / "nginx.conf").write_text(PLAIN)
    assert import_nginx_command("nginx.conf") == 0
    assert capsys.readouterr() == (INI, "")


def test_an_incomplete_translation_is_reported_and_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(f"http {{\n{PLAIN}\ngzip on; }}")
    assert import_nginx_command("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert out == INI.replace("nginx.conf:1", "nginx.conf:2")
    assert error == "nginx.conf:3: gzip: esxiproxy forwards answers with the upstream's compression\n"


def test_a_thumbprint_to_be_filled_in_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(SECURE)
    assert import_nginx_command("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "verify = pin\n" in out and "fill in its thumbprint" in error


def test_an_insecure_upstream_can_be_kept(folder, capsys):
    (folder / "nginx.conf").write_text(SECURE)
    assert import_nginx_command("--keep-insecure", "nginx.conf") == 0
    out, error = capsys.readouterr()
    assert "verify = none  ; as in nginx: the host's certificate is not verified\n" in out and not error


def test_a_list_of_hosts_is_written_into_the_folder(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    (folder / "lists").mkdir()
    assert import_nginx_command("--keep-insecure", "--hosts", "lists", "nginx.conf") == 0
    out, error = capsys.readouterr()
    assert f"file = {folder}/lists/esx.csv\n" in out and not error
    assert (folder / "lists/esx.csv").read_text() == "name,address\nesx01,10.0.0.1:443\nesx02,10.0.0.2:443\n"


def test_without_a_folder_the_list_is_a_comment_and_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    assert import_nginx_command("--keep-insecure", "nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "file = esx.csv\n" in out and "\n; name,address\n; esx01,10.0.0.1:443\n" in out
    assert error == (
        "nginx.conf:2: proxy_pass: the list of 2 hosts is in comments: write it to esx.csv, or use "
        "--hosts FOLDER\n"
    )


def test_hosts_that_nginx_does_not_verify_exit_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    assert import_nginx_command("--hosts", ".", "nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "verify = none\n" in out.replace("  ; as in nginx: the hosts' certificates are not verified", "")
    assert error == (
        "nginx.conf:2: proxy_pass: nginx does not verify $esx (proxy_ssl_verify), and verify = none does not "
        "either: write verify = pin and a column pins with the thumbprints, or use --keep-insecure\n"
    )


def test_a_list_that_nginx_does_not_have_is_written_with_its_header_and_exits_with_1(folder, capsys):
    (folder / "nginx.conf").write_text(ANY)
    assert import_nginx_command("--keep-insecure", "--hosts", ".", "nginx.conf") == 1
    assert capsys.readouterr().err == (
        "nginx.conf:1: proxy_pass: nginx accepts every name, and a router only the hosts of its list: write "
        f"the list {folder}/hosts.csv, which begins with the line name,address and has a line like "
        "NAME,NAME.internal for each host\n"
    )
    assert (folder / "hosts.csv").read_text() == "name,address\n"


def test_a_list_that_is_there_is_not_overwritten(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    (folder / "esx.csv").write_text("mine")
    assert import_nginx_command("--hosts", ".", "nginx.conf") == 2
    assert capsys.readouterr() == (
        "",
        f"{folder}/esx.csv: there is such a file already: remove it, or name another folder\n",
    )
    assert (folder / "esx.csv").read_text() == "mine"


def test_a_folder_that_is_not_there_exits_with_2(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    assert import_nginx_command("--hosts", "gone", "nginx.conf") == 2
    assert capsys.readouterr() == (
        "",
        "gone: no such folder for the lists of hosts: create it, or name another\n",
    )


def test_a_folder_that_an_ini_file_would_cut_short_exits_with_2(folder, capsys):
    (folder / "nginx.conf").write_text(MANY)
    (folder / "a ;b").mkdir()
    assert import_nginx_command("--hosts", "a ;b", "nginx.conf") == 2
    assert capsys.readouterr() == (
        "",
        "'a ;b': this path cannot be written in an INI file: name another folder\n",
    )


def test_a_list_that_cannot_be_written_exits_with_2(folder, capsys, monkeypatch):
    (folder / "nginx.conf").write_text(MANY)

    def refuse(path, mode, **_):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(import_nginx, "open", refuse, raising=False)
    assert import_nginx_command("--hosts", ".", "nginx.conf") == 2
    assert capsys.readouterr() == (
        "",
        f"{folder}/esx.csv: cannot be written: No space left on device\n",
    )


def test_an_address_with_a_password_is_not_repeated(folder, capsys):
    (folder / "nginx.conf").write_text(MANY.replace("10.0.0.1:443", "root:QXZJKVWY@10.0.0.1"))
    assert import_nginx_command("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert "QXZJ" not in out + error and "esx01: the address has a user or a password" in error


def test_nothing_to_carry_over_prints_nothing(folder, capsys):
    (folder / "nginx.conf").write_text("server { return 204; }")
    assert import_nginx_command("nginx.conf") == 1
    assert capsys.readouterr().out == ""


def test_no_nginx_configuration_exits_with_2(folder, capsys):
    (folder / "nginx.conf").write_text("server {")
    assert import_nginx_command("nginx.conf") == 2
    assert capsys.readouterr() == ("", 'nginx.conf:1: unexpected end of file, expecting "}"\n')
    assert import_nginx_command("gone.conf") == 2
    assert capsys.readouterr() == ("", "gone.conf:1: No such file or directory: 'gone.conf'\n")


def test_wrong_usage_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        import_nginx_command()
    assert caught.value.code == 2


def test_crossplane_is_asked_for_where_it_is_missing(folder, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "crossplane":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "crossplane", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert import_nginx_command("nginx.conf") == 2
    assert capsys.readouterr().err == "import-nginx needs crossplane: pip install 'esxiproxy[nginx]'\n"


def test_a_ticket_in_the_file_is_not_repeated(folder, capsys):
    (folder / "nginx.conf").write_text("server { location / { proxy_pass http://e/ticket/QXZJKVWY; } }")
    assert import_nginx_command("nginx.conf") == 1
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
    assert import_nginx_command("nginx.conf") == 1
    out, error = capsys.readouterr()
    assert error == f"nginx.conf:1: proxy_set_header: {name} {reason}\n"
    assert "QXZ" not in out + error
