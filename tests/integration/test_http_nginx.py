"""A web server behind esxiproxy answers as it does when it is asked directly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.listeners import KINDS, SCHEMES, forwarding
from tests.support.programs import Nginx, free_ports
from tests.support.websocket import Head
from tests.support.websocket_peers import Client

OUR_OWN = {
    "Connection": "hop by hop",
    "Keep-Alive": "hop by hop",
    "Transfer-Encoding": "hop by hop",
    "Via": "names the proxies on the way (RFC 9110 7.6.3)",
    "X-Request-ID": "names the session, a new one every time",
    "Date": "the second in which the answer was made",
}
"""The fields of an answer that may differ, each with its reason."""

SERVER = """
    types {{ text/html html; text/plain txt; application/octet-stream bin; }}
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        root {folder};
        client_max_body_size 64k;
        gzip_proxied any; gzip_min_length 1; gzip_vary on; gzip_types text/plain;
        location /zipped/ {{ gzip on; }}
        location /expires/ {{ expires epoch; add_header X-Twice 1; add_header X-Twice 2; }}
        location = /nothing {{ return 204; }}
        location = /moved {{ return 301 /page.html?from=moved; }}
        location = /found {{ return 302 $scheme://$http_host/page.html; }}
        location = /other {{ return 303 https://elsewhere.test/page; }}
        location = /again {{ return 307 ../page.html; }}
        location = /denied {{ deny all; }}
        location = /login {{ auth_basic "the host"; auth_basic_user_file {folder}/users; }}
        location = /teapot {{ return 418 "short and stout"; }}
        location = /broken {{ return 500; }}
        location = /cookies {{
            add_header Set-Cookie "a=1; Path=/; HttpOnly";
            add_header Set-Cookie "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT";
            return 200 "cookies: $http_cookie";
        }}
        location /echo {{
            default_type text/plain;
            return 200 "$request_method $request_uri [$args] $http_user_agent $http_accept [$http_x_one]";
        }}
        location = /body {{
            client_body_buffer_size 64k;
            proxy_pass http://127.0.0.1:{plain}/taken;
            proxy_method POST;
            add_header X-Body "$content_length [$request_body]";
        }}
        location = /taken {{ return 200 "taken: $content_length"; }}
        location /dav/ {{ dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; }}
    }}
"""


def request(target: str, *fields: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """Return a request; the client adds the authority that it is connected to."""
    lines = [f"{method} {target} HTTP/{version}", "Host: {authority}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(target: str, body: bytes, *fields: str, method: str = "POST") -> bytes:
    """Return a request with a body of known length."""
    return request(target, f"Content-Length: {len(body)}", *fields, method=method, body=body)


def chunks(target: str, *pieces: bytes, method: str = "POST", end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end
    return request(target, "Transfer-Encoding: chunked", method=method, body=body)


@dataclass
class Visit:
    """One connection to the server, directly or through a listener, with its answers."""

    client: Client
    base: str
    seen: list[object] = field(default_factory=list)

    def send(self, octets: bytes) -> None:
        """Send it, our authority put in."""
        self.client.send_raw(octets.replace(b"{authority}", self.base.partition("://")[2].encode()))

    def read(self, bodiless: bool = False) -> Head:
        """Note one answer: its status line, its end-to-end fields and its body."""
        head = self.client.recv_head()
        body = b"" if bodiless or 100 <= head.status < 200 else self.client.recv_body(head)
        own = {name.lower() for name in OUR_OWN}
        fields = [(name, self._neutral(value)) for name, value in head.fields if name.lower() not in own]
        shown = body if len(body) < 200 else f"{len(body)} bytes {hashlib.sha256(body).hexdigest()[:12]}"
        self.seen.append((head.line, sorted(fields), shown))
        return head

    def _neutral(self, value: str) -> str:
        return value.replace(self.base, "BASE")


Case = Callable[[Visit], None]


def asks(*requests: bytes, pipelined: bool = False) -> Case:
    """Send these requests on one connection, one after another or all at once."""

    def play(visit: Visit) -> None:
        if pipelined:
            visit.send(b"".join(requests))
        for octets in requests:
            if not pipelined:
                visit.send(octets)
            visit.read(bodiless=octets.startswith(b"HEAD "))

    return play


def continues(visit: Visit) -> None:
    """Send the body after the server's 100."""
    visit.send(request("/body", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    assert visit.read().status == 100
    visit.send(b"hello")
    visit.read()
    visit.send(request("/page.html"))
    visit.read()


def expects_too_much(visit: Visit) -> None:
    """Announce a body that the server refuses before it is sent."""
    visit.send(request("/body", "Content-Length: 99999", "Expect: 100-continue", method="POST"))
    visit.read()


def too_large(visit: Visit) -> None:
    """Send a body that the server refuses while it is being sent."""
    visit.send(request("/body", "Content-Length: 99999", method="POST", body=b"x" * 1000))
    visit.read()


def in_pieces(visit: Visit) -> None:
    """Send the request with one byte in each segment."""
    octets = request("/echo/slow", "X-One: 1").replace(b"{authority}", b"h.test")
    visit.client.send_bytewise(octets)
    visit.read()


DATED = "Date: Sun, 06 Nov 1994 08:49:37 GMT"
CASES: dict[str, Case] = {
    "GET": asks(request("/page.html")),
    "GET an index": asks(request("/")),
    "GET an empty file": asks(request("/empty.txt")),
    "GET a large file": asks(request("/large.bin")),
    "GET a folder without its slash": asks(request("/folder")),
    "HEAD": asks(request("/page.html", method="HEAD")),
    "HEAD of nothing": asks(request("/nowhere", method="HEAD")),
    "HEAD then GET": asks(request("/page.html", method="HEAD"), request("/page.html")),
    "HEAD of a redirect": asks(request("/moved", method="HEAD")),
    "OPTIONS": asks(request("/page.html", method="OPTIONS")),
    "OPTIONS of what answers": asks(request("/echo", method="OPTIONS")),
    "an unknown method": asks(request("/echo", method="BREW")),
    "POST": asks(post("/body", b"a=1&b=2", "Content-Type: application/x-www-form-urlencoded")),
    "POST of nothing": asks(post("/body", b"")),
    "POST without a length": asks(request("/body", method="POST")),
    "POST to a file": asks(post("/page.html", b"hello")),
    "POST then GET": asks(post("/body", b"hello"), request("/page.html")),
    "POST in chunks": asks(chunks("/body", b"hel", b"lo"), request("/page.html")),
    "POST of no chunks": asks(chunks("/body")),
    "POST in chunks with a trailer": asks(chunks("/body", b"hello", end=b"0\r\nX-Sum: 1\r\n\r\n")),
    "GET with a body": asks(post("/echo", b"hello", method="GET"), request("/page.html")),
    "PUT, GET, PUT, DELETE": asks(
        post("/dav/one.bin", b"first", DATED, method="PUT"),
        request("/dav/one.bin"),
        post("/dav/one.bin", bytes(range(256)) * 100, DATED, method="PUT"),
        request("/dav/one.bin"),
        request("/dav/one.bin", method="DELETE"),
        request("/dav/one.bin"),
    ),
    "PUT in chunks": asks(
        chunks("/dav/two.txt", b"x" * 30000, b"y", method="PUT"), request("/dav/two.txt", method="DELETE")
    ),
    "MKCOL and DELETE": asks(
        request("/dav/new/", method="MKCOL"), request("/dav/new/", method="DELETE"), request("/dav/new/")
    ),
    "Range": asks(request("/large.bin", "Range: bytes=10-19")),
    "Range from the end": asks(request("/large.bin", "Range: bytes=-5")),
    "Range to the end": asks(request("/large.bin", "Range: bytes=99990-")),
    "Range beyond": asks(request("/large.bin", "Range: bytes=200000-")),
    "If-Range that holds": asks(
        request("/page.html", "Range: bytes=0-3", "If-Range: Thu, 01 Jan 2026 00:00:00 GMT")
    ),
    "If-Range that fails": asks(
        request("/page.html", "Range: bytes=0-3", "If-Range: Thu, 01 Jan 1998 00:00:00 GMT")
    ),
    "304 by date": asks(
        request("/page.html", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"), request("/page.html")
    ),
    "304 by tag": asks(request("/page.html", "If-None-Match: *"), request("/page.html")),
    "304 for HEAD": asks(request("/page.html", "If-None-Match: *", method="HEAD")),
    "modified since": asks(request("/page.html", "If-Modified-Since: Thu, 01 Jan 1998 00:00:00 GMT")),
    "412": asks(request("/page.html", 'If-Match: "other"')),
    "204": asks(request("/nothing"), request("/page.html")),
    "301": asks(request("/moved")),
    "302 with its own authority": asks(request("/found")),
    "303 to elsewhere": asks(request("/other")),
    "307 to a relative place": asks(request("/again")),
    "401": asks(request("/login")),
    "401 then 200": asks(request("/login"), request("/login", "Authorization: Basic bWU6c2VjcmV0")),
    "403": asks(request("/denied")),
    "404": asks(request("/nowhere"), request("/page.html")),
    "405": asks(request("/page.html", method="PUT")),
    "413": too_large,
    "418": asks(request("/teapot")),
    "500": asks(request("/broken")),
    "gzip": asks(request("/zipped/text.txt", "Accept-Encoding: gzip, br")),
    "gzip for HEAD": asks(request("/zipped/text.txt", "Accept-Encoding: gzip", method="HEAD")),
    "gzip unwanted": asks(request("/zipped/text.txt", "Accept-Encoding: identity")),
    "gzip, keep-alive": asks(
        request("/zipped/text.txt", "Accept-Encoding: gzip"),
        request("/zipped/text.txt"),
        request("/page.html"),
    ),
    "repeated fields": asks(request("/expires/text.txt")),
    "cookies": asks(request("/cookies", "Cookie: x=1; y=2")),
    "a field of odd bytes": asks(
        request("/echo", "X-One: \xc3\xa9 \xe9 \t \"';,", "User-Agent: me/1 (x; y)")
    ),
    "an empty field": asks(request("/echo", "X-One:", "Accept: */*")),
    "a large field": asks(request("/echo", "X-One: " + "v" * 7000)),
    "a field too large for the server": asks(request("/echo", "X-One: " + "v" * 9000)),
    "many fields": asks(request("/echo", *(f"X-{number}: {number}" for number in range(80)))),
    "a long target": asks(request("/echo/" + "a" * 7000)),
    "a long query": asks(request("/echo?q=" + "%20" * 2300)),
    "double slashes": asks(request("//echo//a//")),
    "dots": asks(request("/folder/../echo/./b/..")),
    "out of the root": asks(request("/../../etc/passwd")),
    "escapes": asks(request("/echo/%2f%2E%41%7e%C3%A9")),
    "a broken escape": asks(request("/echo/%zz")),
    "an escaped NUL": asks(request("/echo/%00")),
    "matrix parameters": asks(request("/echo;a=1;b/c;d")),
    "marks": asks(request("/echo/~!$&'()*,=:@?/?:@!$'()*,;+")),
    "query without values": asks(request("/echo?&&a=&=b&c")),
    "a query and no path": asks(request("/?x")),
    "backslash": asks(request("/echo/a\\b")),
    "absolute-form": asks(request("http://{authority}/echo/absolute?x")),
    "HTTP/1.0": asks(request("/page.html", version="1.0")),
    "HTTP/1.0 HEAD": asks(request("/page.html", method="HEAD", version="1.0")),
    "HTTP/1.0 POST": asks(request("/body", "Content-Length: 2", method="POST", version="1.0", body=b"hi")),
    "HTTP/1.0 without Host": asks(b"GET /page.html HTTP/1.0\r\n\r\n"),
    "Connection: close": asks(request("/page.html", "Connection: close")),
    "Expect: 100-continue": continues,
    "Expect: 100-continue, refused": expects_too_much,
    "a byte at a time": in_pieces,
    "keep-alive": asks(*(request(f"/echo/{number}") for number in range(20))),
    "pipelined": asks(*(request(f"/echo/{number}") for number in range(20)), pipelined=True),
    "pipelined, of all kinds": asks(
        request("/page.html"),
        request("/page.html", method="HEAD"),
        post("/body", b"hello"),
        request("/nothing"),
        chunks("/body", b"a", b"b"),
        request("/large.bin", "Range: bytes=0-70000"),
        request("/page.html", "If-None-Match: *"),
        request("/nowhere"),
        pipelined=True,
    ),
}


def seen(case: str, port: int, scheme: str = "http") -> list[object]:
    """Return what a client sees in this case at a port."""
    with Client(port, tls=scheme == "https") as client:
        visit = Visit(client, f"{scheme}://127.0.0.1:{port}")
        CASES[case](visit)
    return visit.seen


def _files(folder: Path) -> None:
    """Write the files of the server, with a fixed date."""
    for name in ("folder", "zipped", "expires", "dav"):
        (folder / name).mkdir()
    files = {
        "page.html": b"<!doctype html><title>a page</title>\n" * 20,
        "index.html": b"<!doctype html><title>the index</title>\n",
        "empty.txt": b"",
        "large.bin": bytes(range(256)) * 391,
        "zipped/text.txt": b"Lorem ipsum dolor sit amet. " * 500,
        "expires/text.txt": b"long gone",
        "login": b"you are in",
        "users": b"me:{PLAIN}secret\n",
    }
    for name, octets in files.items():
        path = folder / name
        path.write_bytes(octets)
        os.utime(path, (1767225600, 1767225600))  # 2026-01-01


@pytest.fixture(scope="module")
def scene(
    transports: str,
    tmp_path_factory: pytest.TempPathFactory,
    upstream_certificate: Certificate,
    listener_certificate: Certificate,
) -> Iterator[tuple[int, dict[str, int]]]:
    """Return the port of nginx, and the ports of the listeners in front of it."""
    folder = tmp_path_factory.mktemp("site")
    _files(folder)
    plain, secure = free_ports(2)
    shown = upstream_certificate
    values = {"certificate": shown.path, "key": shown.key_path, "folder": folder}
    with (
        Nginx(SERVER.format(plain=plain, secure=secure, **values)),
        forwarding(plain, secure, shown, listener_certificate) as listeners,
    ):
        yield plain, listeners.ports


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_nothing_differs(case: str, name: str, scene: tuple[int, dict[str, int]]) -> None:
    """Status, end-to-end fields and body are those of the server itself."""
    plain, ports = scene
    assert seen(case, ports[name], SCHEMES[name]) == seen(case, plain)


def test_there_are_enough_cases() -> None:
    """The table has at least forty requests."""
    assert len(CASES) >= 40
