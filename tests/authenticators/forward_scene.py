"""An authenticator `forward` whose service has the answers of a test."""

from esxiproxy.authenticators.forward import TYPE
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.interfaces import Answer
from tests.authenticators.token_scene import Scene
from tests.authenticators.world import settings
from tests.support.outcome import result

URL = "https://auth.example.com/verify?secret=u1"
SECRET = "5ecr3t"
UPGRADE = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Key", b"x"))
ALICE = (b"Remote-User", b"alice")


def request(*fields, target="/ticket/" + SECRET, method="GET", host=True, session="s1", **more):
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    version, first = ("1.1", "Host: consoles.example.com\r\n") if host else ("1.0", "")
    head = parse(f"{method} {target} HTTP/{version}\r\n{first}".encode() + lines + b"\r\n")
    client = more.pop("client", PeerAddress("192.0.2.7", 40000))
    return Request(session, "one", client, more.pop("secure", True), head, **more)


def answer(status, *fields):
    return Answer(status, tuple((name.lower(), value) for name, value in fields), b"")


def forward(folder, *answers, **texts):
    """Return an authenticator of a section with these keys, and its service with these answers."""
    scene = Scene(*answers)
    found = TYPE.create(settings(TYPE, folder, url=texts.pop("url", URL), **texts), scene.context)
    return found, scene.http


def asked(folder, request, **texts):
    """Return the fields that the service gets for a request."""
    found, http = forward(folder, answer(200, ALICE), **texts)
    result(found.authenticate(request))
    return http.requests[0][2]["fields"]


__all__ = ["result"]
