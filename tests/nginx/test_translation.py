"""The exact sections, or the exact complaint, of each nginx directive."""

from __future__ import annotations

from pathlib import Path

import pytest

from esxiproxy.app.preflight import load_checked
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.nginx import vocabulary
from esxiproxy.nginx.source import Directive, SourceError
from esxiproxy.nginx.translation import Translation, translate
from esxiproxy.nginx.vocabulary import restriction
from tests.nginx.cases import (
    CASES,
    CERTIFICATE,
    PASS,
    ROOT,
    TLS_PASS,
    UPGRADE,
    Case,
    location,
    server,
)
from tests.nginx.reading import read


def imported(text: str, keep_insecure: bool = False) -> Translation:
    Path("nginx.conf").write_text(text)
    return translate("nginx.conf", keep_insecure)


@pytest.mark.parametrize("name", CASES)
def test_each_directive_has_its_sections_or_its_complaint(name: str, folder: Path) -> None:
    case: Case = CASES[name]
    for path, text in case.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    translation = imported(case.text, case.keep_insecure)
    wanted = {
        header: {key: value.replace("FOLDER", str(folder)) for key, value in keys.items()}
        for header, keys in case.sections.items()
    }
    assert read(translation.text) == wanted
    assert list(map(str, translation.complaints)) == [
        line if line.startswith("sites/") else f"nginx.conf:{line}" for line in case.complaints
    ]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.sections])
def test_the_translation_passes_check_except_for_thumbprints(name: str, folder: Path) -> None:
    case = CASES[name]
    for path, text in case.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    text = imported(case.text, case.keep_insecure).text
    Path("x.ini").write_text(text.replace("/etc/a.", "a."))
    if any("pin" in keys for keys in case.sections.values()):
        with pytest.raises(ConfigError) as caught:
            load_checked("x.ini")
        (problem,) = caught.value.problems
        assert (problem.key, problem.text) == (
            "pin",
            "'FILL-IN-AS-SAID-ABOVE' is no thumbprint: write sha256:HEX or sha1:HEX",
        )
    else:
        load_checked("x.ini")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 100


# --- the text itself


def test_the_text_says_where_everything_comes_from(folder: Path) -> None:
    text = imported(
        "server {\n  listen 80; listen [::]:80;\n  server_name console.example.com;\n  location / {\n"
        "    proxy_pass https://192.0.2.10;\n    proxy_read_timeout 1h;\n  }\n}\n"
    ).text
    assert text == (
        "; From nginx.conf, by esxiproxy import-nginx.\n\n[listener console.example.com-80]\n; "
        "nginx.conf:2\n; nginx forwards no WebSocket here (no Upgrade field), and esxiproxy does\n; "
        "server_name console.example.com: a listener accepts every name\nlisten = [::]:80  ; includes "
        "every IPv4 address\nhttp = forward\nupstream = 192.0.2.10\n\n[upstream 192.0.2.10]\n; "
        "nginx.conf:5\n; nginx does not verify this host.  Fill in its thumbprint, which this command "
        "shows:\n;   esxiproxy doctor wss://192.0.2.10:443/\nurl = wss://192.0.2.10:443\nverify = "
        "pin\npin = FILL-IN-AS-SAID-ABOVE\norigin = client  ; as nginx forwards it\nidle_timeout = 1h  ; "
        "proxy_read_timeout, for a console without data\nresponse_timeout = 1h  ; proxy_read_timeout, "
        "for an HTTP answer without data\n"
    )


def test_the_choice_among_several_servers_is_marked(folder: Path) -> None:
    text = imported(
        "upstream e { server 192.0.2.10:80; server 192.0.2.11:80; }" + location("proxy_pass http://e;")
    ).text
    assert "; the first of 2 servers; omitted: 192.0.2.11:80\n" in text


def test_a_listener_that_cannot_be_bound_stands_there_as_a_comment(folder: Path) -> None:
    other = f"location / {{ proxy_pass http://192.0.2.11; {UPGRADE} }}"
    text = imported(server("listen 80; server_name a;") + server("listen 80; server_name b;", other)).text
    assert (
        "; [listener b-80]\n; nginx.conf:1\n; server_name b: a listener accepts every name\n; listen = "
        "0.0.0.0:80\n; http = forward\n; upstream = 192.0.2.11-80\n" in text
    )


def test_equal_upstreams_are_merged_and_equal_names_are_numbered(folder: Path) -> None:
    text = imported(
        server("listen 80;")
        + server("listen 81;")
        + server("listen 82;", f"location / {{ {PASS} proxy_set_header Host $host; }}")
    ).text
    sections = read(text)
    assert [header for header in sections if header.startswith("upstream")] == [
        "upstream 192.0.2.10-80",
        "upstream 192.0.2.10-80-2",
    ]
    assert [keys["upstream"] for keys in sections.values() if "upstream" in keys] == [
        "192.0.2.10-80",
        "192.0.2.10-80",
        "192.0.2.10-80-2",
    ]


def test_no_text_of_the_file_can_begin_a_line_or_a_key(folder: Path) -> None:
    text = imported(server('listen 80; server_name "a\n[proxy]\nservices = x";')).text
    assert set(read(text)) == {"listener a-proxy-services-x-80", "upstream 192.0.2.10-80"}


@pytest.mark.parametrize("path", ["a ;b.crt", "a #b.crt", "a\nb.crt"])
def test_a_path_that_an_ini_file_would_cut_short_is_complained_of(folder: Path, path: str) -> None:
    rest = f'ssl_certificate "{path}"; ssl_certificate_key a.key; {ROOT}'
    translation = imported(server("listen 80 ssl;", rest))
    assert translation.text == ""
    assert "cannot be written" in str(translation.complaints[0])


def test_complaints_come_in_the_files_order_and_once(folder: Path) -> None:
    text = "gzip on;\n" + server("listen 80 http2;\n", ROOT + "\nadd_header A b;\n") + "\nssl_ciphers HIGH;"
    translation = imported(f"http {{ {text} }}")
    assert [complaint.line for complaint in translation.complaints] == [1, 2, 4, 6]


def test_of_a_server_that_is_left_out_nothing_else_is_said(folder: Path) -> None:
    translation = imported(server(rest=f"gzip on; deny all; {ROOT}"))
    assert [str(complaint).split(": ")[1] for complaint in translation.complaints] == ["deny"]


def test_a_relative_path_is_relative_to_the_files_folder_wherever_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    Path("nginx.conf").write_text(
        server("listen 80 ssl;", "ssl_certificate a.crt; ssl_certificate_key a.key;" + ROOT)
    )
    monkeypatch.chdir("elsewhere")
    assert f"certificate = {folder}/a.crt\n" in translate("../nginx.conf").text


# --- directives that restrict no client

ORDINARY = f"""
user www-data; worker_processes auto; pid /run/nginx.pid; worker_rlimit_nofile 65535;
events {{ worker_connections 768; multi_accept on; }}
http {{
  sendfile on; tcp_nopush on; types_hash_max_size 2048; server_tokens off; include mime.types;
  default_type application/octet-stream; keepalive_timeout 65; large_client_header_buffers 4 16k;
  log_format main '$remote_addr'; access_log /var/log/nginx/access.log main;
  gzip on; gzip_vary on; gzip_types text/css; brotli on; brotli_comp_level 6; charset utf-8;
  fastcgi_buffers 8 16k; uwsgi_read_timeout 60s; proxy_cache_path /var/cache/nginx keys_zone=a:1m;
  limit_req_zone $binary_remote_addr zone=a:10m rate=1r/s; resolver 192.0.2.53 valid=10s; resolver_timeout 5s;
  set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For; http2_max_concurrent_streams 64; etag on;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  geo $inside {{ default 0; 10.0.0.0/8 1; }}
  server {{
    listen 443 ssl; server_name console.example.com; {CERTIFICATE}
    ssl_session_timeout 1d; ssl_session_cache shared:MozSSL:10m; ssl_session_tickets off;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_ciphers HIGH; ssl_prefer_server_ciphers off; ssl_dhparam dhparam.pem;
    ssl_stapling on; ssl_stapling_verify on; ssl_trusted_certificate ca.pem; ssl_early_data off;
    ssl_conf_command Options PrioritizeChaCha; ssl_verify_depth 2; client_body_timeout 60s;
    add_header Strict-Transport-Security "max-age=63072000" always; client_max_body_size 0;
    charset utf-8; expires 1h; root /srv; index index.html; error_page 502 503 /50x.html; limit_req zone=a;
    location = /50x.html {{ root /srv; internal; }}
    location / {{
      proxy_pass https://192.0.2.10; proxy_http_version 1.1; proxy_buffering off; proxy_redirect off;
      proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade; proxy_hide_header X-Powered-By;
      proxy_cookie_path / /; proxy_cookie_flags ~ secure; proxy_ssl_verify on; proxy_ssl_verify_depth 2;
      proxy_ssl_trusted_certificate ca.pem; proxy_ssl_protocols TLSv1.2; proxy_ssl_server_name on;
      proxy_read_timeout 1h; proxy_send_timeout 1h; proxy_bind 192.0.2.1; proxy_intercept_errors on;
      proxy_pass_request_headers on; proxy_ignore_client_abort on; limit_rate 1m;
      auth_basic off; proxy_cache off; proxy_cache_bypass 1; proxy_buffers 8 4k; tcp_nodelay on;
    }}
  }}
}}
"""


def test_a_configuration_with_ordinary_directives_is_carried_over(folder: Path) -> None:
    translation = imported(ORDINARY)
    assert set(read(translation.text)) == {"listener console.example.com-443", "upstream 192.0.2.10"}
    assert not [
        line for line in map(str, translation.complaints) if "left out" in line or "may decide" in line
    ]


@pytest.mark.parametrize("table", ["PROCESS", "NEEDLESS", "LOST"])
def test_no_directive_of_the_tables_leaves_a_server_out(folder: Path, table: str) -> None:
    for name in sorted(getattr(vocabulary, table)):
        assert restriction(Directive(name, ("x",), "nginx.conf", 1)) is None, name


def test_no_directive_stands_in_two_tables() -> None:
    tables = [vocabulary.CONVERTED, vocabulary.PROCESS, vocabulary.NEEDLESS, vocabulary.LOST]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert set(vocabulary.RESTRICTING) & set(names) == {"include"}  # restricts only where the file is missing


# --- what is no configuration


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("server { listen 80", 'nginx.conf:1: unexpected end of file, expecting "}"'),
        ("server { listen 80; }\n}", 'nginx.conf:2: unexpected "}"'),
        ("server {\n proxy_pass; }", "nginx.conf:2: proxy_pass has no argument"),
        (
            "http {\n sendfile maybe; }",
            'nginx.conf:2: invalid value "maybe" in "sendfile" directive, it must be "on" or "off"',
        ),
    ],
)
def test_a_file_that_nginx_refuses_is_refused(folder: Path, text: str, wanted: str) -> None:
    with pytest.raises(SourceError) as caught:
        imported(text)
    assert str(caught.value).startswith(wanted)


def test_a_file_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^gone\.conf:1: No such file or directory: 'gone.conf'$"):
        translate("gone.conf")


def test_a_file_that_includes_itself_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^nginx\.conf:1: the file includes itself"):
        imported("include nginx.conf;")


def test_only_tls_pass_has_https() -> None:
    """A check of the cases themselves."""
    assert "https://" in TLS_PASS and "https://" not in PASS
