"""The HTML console of vCenter in Chromium through the proxy, with the settings of conf/vcenter.ini."""

from __future__ import annotations

import json
import re

from tests.support import config, webconsole
from tests.support.browser import Chromium, Page
from tests.support.certificates import Authority, Certificate
from tests.support.programs import ROOT, Proxy, until
from tests.support.webconsole import COOKIE, NAME, PASSWORD, USER, WebConsole, colour
from tests.support.websocket_peers import Client


def example(vcenter: WebConsole, shown: Certificate, own: Certificate) -> str:
    """Return conf/vcenter.ini with the addresses and certificates of this test, and with all logs."""
    text = (ROOT / "conf" / "vcenter.ini").read_text()
    for key, value in {
        "listen": "127.0.0.1:0",
        "certificate": own.path,
        "private_key": own.key_path,
        "url": f"wss://127.0.0.1:{vcenter.port}",
        "pin": f"sha256:{shown.sha256}",
    }.items():
        text, count = re.subn(rf"^{key} = [^;\n]*", f"{key} = {value} ", text, flags=re.M)
        assert count == 1, key
    return text + config.ini(access_log="access.log", session_log="all", close_timeout="1s")


def wait(page: Page, expression: str, value: str) -> None:
    """Wait until an expression has this value in the page."""
    until(lambda: page.evaluate(expression) == value, f"{expression} is {value!r}")


def asked(port: int, target: str, host: str, origin: str, cookie: str) -> str:
    """Return the status and the reason of the answer to an opening handshake."""
    with Client(port, tls=True) as client:
        head = client.ask(target, ["binary"], [("Origin", origin), ("Cookie", cookie)], host)
        return head.line.partition(" ")[2]


def test_the_html_console_works_in_a_browser(
    authority: Authority, listener_certificate: Certificate, chromium: Chromium
) -> None:
    shown = authority.server("vcenter", names=[NAME])
    with (
        WebConsole(shown) as vcenter,
        Proxy(example(vcenter, shown, listener_certificate)) as proxy,
    ):
        port = proxy.ports["vcenter"]
        site = f"https://127.0.0.1:{port}"

        # Without a login there is no page, and with it the page opens the console.
        page = chromium.open(site + vcenter.page)
        wait(page, "document.body?.innerText", "[401] Login first")
        page.call("Page.navigate", url=f"{site}/ui/login")
        wait(page, "document.readyState + document.title", "completelogin")
        page.evaluate(
            f"document.forms[0].user.value = '{USER}', document.forms[0].password.value = '{PASSWORD}',"
            " document.forms[0].submit()"
        )
        wait(page, "document.title", f"64x48 {webconsole.MACHINE} by binary")
        assert page.evaluate("location.href") == site + vcenter.page

        def is_painted(key: str) -> bool:
            picture = page.canvas()
            assert picture is not None
            return picture.getpixel((32, 24)) == colour(key)

        until(lambda: is_painted(""), "the first picture is painted")
        for key in "ok":
            page.press(key)
            until(lambda key=key: is_painted(key), "the picture follows the key")  # type: ignore[misc]
        assert vcenter.keys == ["o", "k"]
        (opening,) = vcenter.openings()
        assert opening.one("Host") == NAME and opening.one("Origin") == f"https://{NAME}"
        assert opening.one("Cookie") == vcenter.cookie
        assert opening.target.startswith("/ui/webconsole/authd?mksTicket=")
        page.evaluate("socket.close(1000)")
        wait(page, "document.title", "closed 1000")
        page.close()

        # Without the proxy, the stand-in refuses what the browser has sent: the settings are needed.
        used = opening.target
        right = {"host": NAME, "origin": f"https://{NAME}", "cookie": vcenter.cookie}
        for name, value, answer in (
            ("host", f"127.0.0.1:{port}", "400 The name is not that of this vCenter"),
            ("origin", site, "403 The origin is not that of this vCenter"),
            ("cookie", f"{COOKIE}=another", "401 Login first"),
            ("cookie", vcenter.cookie, "403 The ticket is unknown or used"),
        ):
            assert asked(vcenter.port, used, **{**right, name: value}) == answer

        # With it, a used ticket is refused by vCenter. Nothing else of vCenter is served.
        assert asked(port, used, f"127.0.0.1:{port}", site, vcenter.cookie).startswith("403 ")
        with Client(port, tls=True) as client:
            client.get("/mob", ("Cookie", vcenter.cookie))
            assert client.recv_head().status == 404
        assert not [request for request in vcenter.requests if "/mob" in request.target]

        # The logs, and the other files of the proxy.
        access = proxy.folder / "access.log"
        until(lambda: "/mob" in access.read_text(), "the access log has all requests")
        lines = [json.loads(line) for line in access.read_text().splitlines()]
        authd = [line for line in lines if line["target"].startswith("/ui/webconsole/authd?mksTicket=***&")]
        assert [line["kind"] for line in authd] == ["console", "console"]
        assert authd[0]["octets_down"] > 3 * 4 * 64 * 48
        assert [line for line in lines if "sessionTicket=***" in line["target"]]
        assert "mksTicket=***" in proxy.log()
        assert len(vcenter.secrets) == 4
        for path in proxy.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for secret in (*vcenter.secrets, "cst-"):
                assert secret.encode() not in content, f"a secret is in {path.name}"
        proxy.assert_clean()
