"""No ticket is ever shown."""

import pytest

from esxiproxy.core import redaction
from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.redaction import redact, redact_text
from esxiproxy.core.routing import Route, Upstream
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.net.console.backend import OpeningRequest

SECRET = "cst-VCT-5289f8b1-SECRET"


@pytest.mark.parametrize(
    "target",
    [
        "/ticket/SECRET",
        "/ticket/SECRET?x=1",
        "/TICKET/SECRET",
        "/a/ticket/SECRET/",
        "//ticket//SECRET//",
        "/ticket/./SECRET/../b",
        "/ticket/.././/SECRET",
        "/tick%65t/SECRET",
        "/%74icket/SECRET",
        "/ticket%2fSECRET",
        "/ticket%252fSECRET",
        "/x?mksTicket=SECRET&a=1",
        "/x?a=1&sessionTicket=SECRET",
        "/x?a=1;sessionTicket=SECRET",
        "/x?mks%54icket=SECRET",
        f"/ui?t={SECRET}",
        "/ui?t=cst%2DVCT-SECRET",
        "/x?access_token=SECRET",
        "/x?token=SECRET&b=2",
        "/443;cst-SECRET/SECRET+SECRET=--tp-AA:SECRET:BB--",
        "/443;cst-a/SECRET",
        "/443;cst-a=SECRET",
        "/443;cst-a+SECRET--tp-AA:BB--/x;SECRET",
        "/902;SECRET",
        "/443%3Bcst-a/SECRET",
        "/443;cst%2Da/SECRET",
        "/443;CST-a/SECRET",
        "/nfc/SECRET/disk-0.vmdk",
        "/nfc/52c2/SECRET",
        "/ha-nfc/SECRET/disk-0.vmdk",
        "/HA-NFC/SECRET",
        "/n%66c/SECRET",
        "/ticket/a/SECRET",
        "/ticket/a/b;c/SECRET/?x=1",
        "/ticket/a&SECRET",
        "/ticket/a'SECRET",
        '/ticket/a"SECRET',
        "/ticket;v=1/SECRET",
        "/ticket;SECRET",
        "/ticket?SECRET",
        "\\ticket\\SECRET",
        "/tickets/SECRET",
        "/token/SECRET",
        "/x?path=%3Ftoken%3DSECRET",
        "/x?path=%253Ftoken%253DSECRET",
        "/x?path=%25253Ftoken%25253DSECRET",
        "/x?path=?token=SECRET",
        "/x?path=token=SECRET",
        "/x?%%37%34oken=SECRET",
        "/x?%u0074oken=SECRET",
        "/x?token%3DSECRET",
        "/x?token=a;SECRET",
        "/x?token=a?SECRET",
        "/x?token=a=SECRET",
        "/x?token=a'SECRET",
        "/x?token=a%20SECRET",
        "/x;jsessionid=SECRET/y",
        "/x?a=1#access_token=SECRET",
        "/x#SECRET",
        "https://user:SECRET@h/ui",
        "https://user:a@SECRET@h/ui",
        "https://h/ticket/SECRET",
        *(
            f"/x?a=1&{name}=SECRET&b=2"
            for name in (
                *(
                    "token",
                    "TOKEN",
                    "access_token",
                    "id_token",
                    "refresh-token",
                    "xToken",
                    "password",
                    "Password",
                ),
                *(
                    "passwd",
                    "pwd",
                    "passphrase",
                    "sessionId",
                    "sessionid",
                    "session",
                    "JSESSIONID",
                    "PHPSESSID",
                ),
                *("sid", "SID", "user.sid", "jwt", "auth", "authorization", "oauth_verifier", "code", "sig"),
                *(
                    "X-Amz-Signature",
                    "api_key",
                    "apikey",
                    "key",
                    "secret",
                    "client_secret",
                    "credential",
                    "cookie",
                ),
                *(
                    "SAMLResponse",
                    "SAMLart",
                    "csrf",
                    "otp",
                    "pin",
                    "mksTicket",
                    "ticket",
                    "vmware-session[0]",
                ),
                *("bearer", "assertion", "leaseId", "pass", "sso"),
                *("passcode", "userpass", "psk", "pincode", "totp"),
            )
        ),
        *("/ticket/?SECRET", "/ticket/?a&SECRET", "/nfc?SECRET", "/ha-nfc/?SECRET", "/tickets/?a=1&SECRET"),
        *('/x?{"token":"SECRET"}', "/x?token:SECRET", "/x?{'a':1,'token':'SECRET'}", "/x?a=1&token:SECRET"),
        *("/ticket:SECRET", "/ticket,SECRET", "//u:SECRET@h/x", "//SECRET@h"),
        "/x?" + "a=1&" * 300 + "token=SECRET",
        "/x?" + "token=SECRET&" * 100,
        "/x?" + "=" * 100 + "token=SECRET",
    ],
)
def test_the_secret_is_hidden_in_a_target(target):
    assert "SECRET" not in redact(target.encode())


@pytest.mark.parametrize(
    "target", ["/a/" + "x" * 990 + "/443;cst-SECRET", "/x?a=" + "x" * 1010 + "&token=SECRET"]
)
def test_a_truncated_secret_is_hidden(target):
    for length in range(len(target) - 30, len(target)):
        assert "SECRET" not in redact(target[:length].encode())


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/ui/index.html?a=1", "/folder/a%20b.vmx", "/ticketing?x=1", "/ui/?id=vm-7;locale=de&x=a+b"),
        *("/sdk/vimService?WSDL", "/ui/%E2%82%AC", "/a?x=100%25", "/auth/login?next=/ui/", "/api/session"),
        *("https://h:81/ui/?x=1", "/ticket/", "/ui/session.js", "/ui?vmName=a'b"),
    ],
)
def test_text_without_a_secret_is_shown(target):
    assert redact(target.encode()) == target


def test_the_rest_of_a_target_stays_readable():
    assert redact(b"/ticket/SECRET?vm=7") == "/ticket/***?vm=7"


def test_a_long_target_is_cut():
    assert redact(b"/ui/" + b"a" * 8000) == "/ui/" + "a" * (1020) + "..."


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/443;cst-abc/def+g=--tp-AA:BB--", "/443;***"),
        ("/nfc/52c2/disk-0.vmdk", "/nfc/***"),
        ("/ticket;v=1/X", "/ticket;***"),
        ("/x?a=1&token=X&b=2", "/x?a=1&token=***&b=2"),
        ("/x?path=%3Ftoken%3DX", "/x?path=***"),
        ("https://u:p@h/x#y", "https://***@h/x#***"),
    ],
)
def test_text_around_a_secret_is_shown(target, shown):
    assert redact(target.encode()) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Location: https://h/nfc/SECRET/disk-0.vmdk, see there",
        "a redirect to wss://h/443;cst-a/SECRET=--tp-AA:BB-- was refused",
        "GET /x?sid=SECRET HTTP/1.1",
        "Referer: https://h/x?jwt=SECRET#SECRET",
        "connect to https://root:SECRET@h/sdk",
        "{'Authorization': 'Basic SECRET'}",
        "Cookie: vmware_soap_session=SECRET; a=SECRET",
        "X-VMware-CSRF-Token: SECRET",
        "GET /tick%65t/SECRET",
        "sessionId=SECRET",
        *('password="SECRET"', 'token="a SECRET"', "ticket='SECRET'", 'a="b", token="SECRET'),
        *(
            '{"ticket": "SECRET"}',
            "{'password': 'SECRET'}",
            '{"a": 1, "sid": "a\\"SECRET"}',
            "token = SECRET",
        ),
        *(
            "<ticket>SECRET</ticket>",
            '<v:ticket type="x">SECRET</v:ticket>',
            "Token =SECRET",
            "token= SECRET",
        ),
        *("(b'Cookie', b'vmware=SECRET')", "b'Authorization', b'Basic SECRET'", '(b"Cookie", b"a=\'SECRET")'),
        *("X-Auth-Token: SECRET", "vmware-api-session-id: SECRET", "X-VMWARE-VCLOUD-ACCESS-TOKEN: SECRET"),
        *("X-Api-Key: SECRET", "'x-api-key': 'SECRET'", "Bearer SECRETX", "sent bearer SECRETX, refused"),
        *(
            "GET /ticket/?SECRET",
            "('a', 'token', 'SECRET')",
            "at /nfc?SECRET",
            "no route for //u:SECRET@h/x",
            "/var/x/ticket/SECRET",
        ),
        *("/etc/x?token=SECRET", "/var/lib/tokens/a;SECRET", "https://h/var/token/SECRET"),
    ],
)
def test_the_secret_is_hidden_in_a_text(text):
    assert "SECRET" not in redact_text(text)


@pytest.mark.parametrize("name", ["pin", "pw", "code", "sso", "sig", "jws", "psk", "otp", "sid"])
def test_a_short_name_of_a_secret_needs_no_other_mark(name):
    """The value has no word of a secret in it, which would be a reason to look closer."""
    assert "9911" not in redact(f"/x?{name}:9911".encode())
    assert "9911" not in redact(f'/x?{{"{name}":"9911"}}'.encode())
    assert "9911" not in redact(f"/x?%7B%22{name}%22%3A%229911%22%7D".encode())


@pytest.mark.parametrize(
    "text",
    [
        "paths: /ticket/, /ui",
        "connection #5 of 7: 50% done",
        'WWW-Authenticate: Basic realm="x"',
        "https://h/ui/ answered 404",
        "location /ticket/: not carried over",
        "/var/lib/esxiproxy/tokens/db: no such file",
        "cannot open '/run/esxiproxy/sessions/3.sock'",
        "sqlite:/var/lib/esxiproxy/session/state: is a folder",
        "[listener a] private_key: 'x' is no file",
        "[proxy] session_log: 'x' is not all or errors",
        "write verify = pin, or session_log = errors",
        "<module> raised ValueError: the ticket is not valid",
        "<a>b</a> a bearer token is missing",
        'proxy_set_header Cookie ""',
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text):
    assert redact_text(text) == text


def test_no_repr_shows_a_target():
    head = RequestHead(b"GET /ticket/SECRET", b"GET", b"/ticket/SECRET", (1, 1), ((b"Cookie", b"SECRET"),))
    request = Request("s", "l", PeerAddress("192.0.2.7", 1), True, head)
    route = Route.to(Upstream("u", "h", 443, secure=True), target=b"/ticket/SECRET")
    opening = OpeningRequest(b"/ticket/SECRET", ((b"Cookie", b"SECRET"),), b"key", (), None)
    assert "SECRET" not in repr((head, request, route, opening))


def test_the_detail_of_a_failure_has_no_ticket():
    """A plugin's own errors become a session's detail."""
    head = RequestHead(b"", b"GET", b"/", (1, 1), ())
    session = Session(
        Request("s", "l", PeerAddress("192.0.2.7", 1), True, head), SessionLimits(), lambda: 0.0
    )
    session.failed(SessionError("no route for /ticket/SECRET"))
    assert session.record().detail == "no route for /ticket/***"


def test_a_traceback_loses_its_tickets():
    text = "raise X('GET /ticket/SECRET HTTP/1.1') at wss://h/ticket/SECRET2, sessionTicket=SECRET3"
    assert "SECRET" not in redact_text(text)


PLACES = (("path", b"/c/"), ("query", b"link"))
MISPLACED = [
    *(b"/c/S3cret", b"/c/S3cret/c/", b"/c/S3cret%2fc%2f", b"/C/S3cret", b"/%63/S3cret", b"/%2563/S3cret"),
    *(b"//c//S3cret", b"/x/c/S3cret", b"/x?link=S3cret", b"/x?LINK=S3cret", b"/x?%256cink=S3cret"),
    *(b"/x?a=b;link=S3cret", b"/x?a?link=S3cret&b", b"/x?eyJhIjoxfQ.S3cret", b"/eyJhIjoxfQ.S3cret.S3cret"),
]


@pytest.mark.parametrize("target", MISPLACED)
def test_a_secret_of_a_router_is_hidden_in_each_notation(target):
    shown = redact(target, PLACES)
    assert "S3cret" not in shown and "***" in shown


@pytest.mark.parametrize("target", [b"/c/", b"/x/c", b"/x?links=a", b"/x?a=b;c=link", b"/eyJhbGciOiJ/x.html"])
def test_a_target_without_such_a_secret_is_shown(target):
    assert redact(target, PLACES) == target.decode()


def test_only_targets_without_secrets_are_remembered():
    for number in range(2000):
        assert redact(b"/ui/%d.js" % number) == redact(b"/ui/%d.js" % number) == f"/ui/{number}.js"
        redact(b"/x/%d/ticket/S3cret" % number)
        redact(b"/c/S3cret%d" % number, PLACES)
        redact(b"/%d/" % number + b"a" * 300)
    remembered = redaction._harmless
    assert 0 < len(remembered) <= 512 and not any(b"S3cret" in each for each in remembered)
    assert max(map(len, remembered)) <= 256
    redact(b"/c/x/S3cret")  # harmless where links have no such place
    assert redact(b"/c/x/S3cret", PLACES) == "/c/***"


def test_a_signed_token_is_hidden_in_a_text():
    assert redact_text("the token eyJhbGciOiJub25lIn0.eyJh.S3cret is bad") == "the token *** is bad"
