"""The three server blocks that esxiproxy replaces: imported, started, and used beside nginx itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from esxiproxy.cli.main import main
from esxiproxy.nginx.upstreams import PLACEHOLDER
from tests.support.certificates import Certificate
from tests.support.commands import import_nginx_command
from tests.support.listeners import KINDS, Listeners, Upstreams, nginx
from tests.support.programs import Nginx, Proxy, dead_port, free_ports
from tests.support.websocket import CLOSE, TEXT
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream


def script(connection: Connection) -> None:
    """Serve a page for a plain request, and an echo for a WebSocket."""
    request = connection.read_request()
    if request.one("Upgrade"):
        connection.accept()
        connection.serve()
    else:
        body = f"{request.line.rsplit(' ', 1)[0]} host={request.one('Host')}".encode()
        connection.send_head("200 OK", [("Content-Length", str(len(body))), ("X-Own", "1")], body)
    connection.close()


@dataclass(frozen=True)
class Pair:
    """nginx, and esxiproxy with what its file amounts to."""

    theirs: Listeners
    ours: Listeners


@pytest.fixture(scope="module")
def upstreams(upstream_certificate: Certificate) -> Iterator[Upstreams]:
    context = upstream_certificate.server_context()
    with (
        ScriptedUpstream(script) as plain,
        ScriptedUpstream(script, tls=context) as secure,
        dead_port() as nobody,
    ):
        yield Upstreams(plain.port, secure.port, upstream_certificate, nobody)


@pytest.fixture(scope="module")
def reference(upstreams: Upstreams, listener_certificate: Certificate) -> Iterator[Listeners]:
    with nginx(upstreams, listener_certificate) as listeners:
        yield listeners


@contextlib.contextmanager
def started(text: str, ports: dict[str, int]) -> Iterator[Listeners]:
    """Start esxiproxy with this configuration on free ports; nginx has the ports of the file."""
    named = re.findall(r"\[listener (\S+)\]\n(?:;.*\n)*listen = 127\.0\.0\.1:(\d+)\n", text)
    names = {int(port): name for name, port in named}
    with Proxy(re.sub(r"listen = 127\.0\.0\.1:\d+", "listen = 127.0.0.1:0", text)) as proxy:
        yield Listeners(proxy, {name: proxy.ports[names[port]] for name, port in ports.items()})


@pytest.fixture
def imported(
    reference: Listeners, upstreams: Upstreams, capfd: pytest.CaptureFixture[str]
) -> tuple[str, list[str]]:
    """Return the configuration with its thumbprints filled in, and the complaints."""
    capfd.readouterr()
    assert import_nginx_command(str(reference.program.folder / "nginx.conf")) == 1
    text, complaints = capfd.readouterr()
    main(["doctor", f"wss://127.0.0.1:{upstreams.secure}/"])
    shown = re.search(r"sha256:[0-9A-Fa-f:]{64,}", capfd.readouterr().out)
    assert shown is not None, "the doctor shows no thumbprint"
    return text.replace(PLACEHOLDER, shown[0]), complaints.splitlines()


@pytest.fixture
def pair(reference: Listeners, imported: tuple[str, list[str]]) -> Iterator[Pair]:
    with started(imported[0], reference.ports) as ours:
        yield Pair(reference, ours)


def test_nothing_but_the_thumbprints_is_missing(
    imported: tuple[str, list[str]], upstreams: Upstreams
) -> None:
    """The three blocks and nginx's own settings around them are converted completely."""
    assert len(imported[1]) == 2
    assert all(f"nginx does not verify 127.0.0.1:{upstreams.secure}" in line for line in imported[1])


def test_the_check_wants_the_thumbprints_and_then_is_content(
    imported: tuple[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, text = tmp_path, imported[0]
    (folder / "good.ini").write_text(text)
    (folder / "bad.ini").write_text(re.sub(r"pin = sha256:\S+", f"pin = {PLACEHOLDER}", text))
    assert main(["check", str(folder / "good.ini")]) == 0
    assert main(["check", str(folder / "bad.ini")]) == 1
    assert f"pin: '{PLACEHOLDER}' is no thumbprint" in capfd.readouterr().err


def test_a_console_opens_through_every_listener_as_through_nginx(pair: Pair) -> None:
    """The same frames, the same subprotocol, the same end."""
    for name in KINDS:
        seen = []
        for listeners in (pair.theirs, pair.ours):
            with listeners.client(name) as client:
                head = client.open("/ticket/0123456789abcdef", ["binary"])
                client.send_frame(TEXT, b"hello")
                echo = client.recv_frame()
                client.send_frame(CLOSE, b"\x03\xe8")
                seen.append(
                    (
                        head.one("Sec-WebSocket-Protocol"),
                        echo.opcode,
                        echo.payload,
                        client.recv_frame().payload,
                    )
                )
        assert seen[0] == seen[1] == ("binary", TEXT, b"hello", b"\x03\xe8"), name


def answer(client: Client, target: str) -> tuple[int, str | None, bytes]:
    with client:
        client.send_request(f"GET {target} HTTP/1.1", [("Host", "console.test"), ("Connection", "close")])
        head = client.recv_head()
        body = client.recv_exactly(int(head.one("Content-Length") or 0))
        return head.status, head.one("X-Own"), body


def test_a_page_comes_through_every_listener_as_through_nginx(pair: Pair) -> None:
    """`location /` carries plain HTTP, too: same status, same field, same body, same Host for the host."""
    for name in KINDS:
        theirs, ours = (answer(each.client(name), "/ui/?a=b;c&d=") for each in (pair.theirs, pair.ours))
        assert theirs == ours and theirs[0] == 200, name


def test_a_dead_upstream_is_a_502_as_with_nginx(pair: Pair) -> None:
    for listeners in (pair.theirs, pair.ours):
        with listeners.client("dead") as client:
            assert client.ask("/ticket/0123456789abcdef", ["binary"]).status == 502


def test_kept_insecure_it_starts_as_it_is(reference: Listeners, capfd: pytest.CaptureFixture[str]) -> None:
    """With --keep-insecure the configuration needs no changes."""
    capfd.readouterr()
    assert import_nginx_command("--keep-insecure", str(reference.program.folder / "nginx.conf")) == 0
    text, complaints = capfd.readouterr()
    assert complaints == "" and text.count("verify = none") == 1
    with started(text, reference.ports) as ours, ours.client("two") as client:
        assert client.open("/ticket/0123456789abcdef", ["binary"]).status == 101


# --- many hosts

HOSTS = {"esx01": "first", "esx02": "second"}
MANY = """
    map $arg_host $esx {{ default ""; include {folder}/hosts.map; }}
    map $cookie_esx $cookied {{ default ""; include {folder}/hosts.map; }}
    map $host $named {{ default ""; esx01.console.test {first}; esx02.console.test {second}; }}
    map $h $pathed {{ default ""; include {folder}/hosts.map; }}
    server {{
        listen 127.0.0.1:{query};
        if ($esx = "") {{ return 404; }}
        location / {{ proxy_pass https://$esx$request_uri; {settings} }}
    }}
    server {{
        listen 127.0.0.1:{cookie};
        location / {{ proxy_pass https://$cookied; if ($cookied = "") {{ return 404; }} {settings} }}
    }}
    server {{
        listen 127.0.0.1:{host}; server_name ~^[^.]+\\.console\\.test$;
        if ($named = "") {{ return 404; }}
        location / {{ proxy_pass https://$named; {settings} }}
    }}
    server {{
        listen 127.0.0.1:{path};
        location / {{ return 404; }}
        location ~ ^/h/(?<h>[a-z0-9-]+)(?<rest>/.*)$ {{
            if ($pathed = "") {{ return 404; }}
            proxy_pass https://$pathed$rest$is_args$args; {settings}
        }}
    }}
"""
SETTINGS = (
    "proxy_http_version 1.1; proxy_ssl_verify off; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade"; proxy_set_header Host $host;'
)
PLACES = ("query", "cookie", "host", "path")


def answering(name: str) -> Callable[[Connection], None]:
    """Return a host's script that answers with its name and the requested path."""

    def script(connection: Connection) -> None:
        request = connection.read_request()
        if request.one("Upgrade"):
            connection.accept()
            connection.send_frame(TEXT, f"{name} {request.line.split()[1]}".encode())
            connection.serve()
        connection.close()

    return script


@pytest.fixture(scope="module")
def fleet(upstream_certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """Run nginx in front of two hosts that requests name in four ways."""
    folder = tmp_path_factory.mktemp("fleet")
    context = upstream_certificate.server_context()
    with (
        ScriptedUpstream(answering("esx01"), tls=context) as first,
        ScriptedUpstream(answering("esx02"), tls=context) as second,
    ):
        values = {name: f"127.0.0.1:{host.port}" for name, host in (("first", first), ("second", second))}
        lines = [f"{name} {values[address]};\n" for name, address in HOSTS.items()]
        (folder / "hosts.map").write_text("".join(lines))
        ports = dict(zip(PLACES, free_ports(4), strict=True))
        with Nginx(MANY.format(folder=folder, settings=SETTINGS, **values, **ports)) as program:
            yield Listeners(program, ports)


def said(listeners: Listeners, place: str, name: str, target: str = "/ticket/abc") -> tuple[int, bytes]:
    """Return the status of an opening handshake for this host, and the host's answer."""
    separator = "&" if "?" in target else "?"
    paths = {"query": f"{target}{separator}host={name}", "path": f"/h/{name}{target}"}
    fields = {"cookie": [("Cookie", f"esx={name}")]}
    host = f"{name}.console.test" if place == "host" else "console.test"
    with listeners.client(place) as client:
        status = client.ask(paths.get(place, target), ["binary"], fields.get(place, []), host=host).status
        return status, client.recv_frame().payload if status == 101 else b""


def test_each_of_many_hosts_opens_as_through_nginx(
    fleet: Listeners, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The list is written, the router finds its hosts in the same places, and nothing else is reached."""
    capfd.readouterr()
    nginx_conf = str(fleet.program.folder / "nginx.conf")
    assert import_nginx_command("--keep-insecure", "--hosts", str(tmp_path), nginx_conf) == 1
    text, complaints = capfd.readouterr()
    assert {line.partition(": 127.0.0.1 ")[2] for line in complaints.splitlines()} == {
        "is dialled only if the router has allow, with the networks of all hosts"
    }
    text = text.replace("type = inventory\n", "type = inventory\nallow = 127.0.0.1\n")
    with started(text, fleet.ports) as ours:
        for place in PLACES:
            for name in HOSTS:
                theirs, own = (said(each, place, name) for each in (fleet, ours))
                assert theirs[0] == own[0] == 101, place
                assert own[1] == f"{name} /ticket/abc".encode(), place
                assert theirs[1].startswith(own[1]), place  # nginx sends the parameter, too
            for name in ("esx03", "127.0.0.1", "esx01.evil"):
                assert [said(each, place, name)[0] for each in (fleet, ours)] == [404, 404], (place, name)
        assert said(ours, "path", "ESX01")[0] == 101  # names have no case
        for listeners in (fleet, ours):
            for place in ("query", "path"):
                with listeners.client(place) as client:
                    assert client.ask("/ticket/abc", ["binary"]).status == 404
