"""The HTML console of vCenter: its page and its WebSocket, with Host, Origin and cookies of vCenter."""

from __future__ import annotations

from esxiproxy.core.routing import Upstream
from tests.net.http_scene import HttpScene, get, read
from tests.net.scene import opening
from tests.support.websocket import accept_of

VCENTER = Upstream(
    "vcenter",
    "192.0.2.30",
    80,
    False,
    host_field="vcenter.example.com",
    origin_field="https://vcenter.example.com",
)
PAGE = b"/ui/webconsole.html?vmId=vm-1&host=vcenter.example.com:443&sessionTicket=cst-VCT-52ab--tp-CD"
AUTHD = b"/ui/webconsole/authd?mksTicket=52ef&host=192.0.2.10&port=902&cfgFile=a.vmx&sslThumbprint=AB"
COOKIE = b"Cookie: VSPHERE-UI-JSESSIONID=abc"
ORIGIN = b"Origin: http://proxy.example:81"


def test_the_page_gets_the_host_and_the_cookie_of_vcenter():
    scene = HttpScene(VCENTER)
    sent = read(scene.ask(get(PAGE, COOKIE)))
    assert sent.line == b"GET %b HTTP/1.1" % PAGE
    assert sent.values(b"Host") == [b"vcenter.example.com"]
    assert sent.values(b"Cookie") == [b"VSPHERE-UI-JSESSIONID=abc"]
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b; Path=/ui\r\n\r\nok")
    got = read(scene.client.received)
    assert got.body == b"ok" and got.values(b"Set-Cookie") == [b"a=b; Path=/ui"]
    (record,) = scene.records
    assert "cst-" not in record.target and "sessionTicket=***" in record.target
    assert "52ab" not in repr(record)


def test_the_websocket_gets_the_origin_and_the_query_of_vcenter():
    scene = HttpScene(VCENTER)
    scene.client.send(opening(AUTHD, COOKIE, ORIGIN))
    scene.pump()
    sent = read(scene.host.received)
    assert sent.line == b"GET %b HTTP/1.1" % AUTHD
    assert sent.values(b"Host") == [b"vcenter.example.com"]
    assert sent.values(b"Origin") == [b"https://vcenter.example.com"]
    assert sent.values(b"Cookie") == [b"VSPHERE-UI-JSESSIONID=abc"]
    (key,) = sent.values(b"Sec-WebSocket-Key")
    accept = accept_of(key.decode()).encode()
    scene.host.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: binary\r\n\r\n" % accept
    )
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 101 ")
    scene.client.close()
    scene.host.close()
    scene.pump()
    (record,) = scene.records
    assert "mksTicket=***" in record.target and "52ef" not in repr(record)
