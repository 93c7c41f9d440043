"""An upstream's own names and paths are rewritten to those that the client sees."""

import pytest

from esxiproxy.core.http.rewriting import ResponseRewriter
from esxiproxy.core.routing import Upstream

SECURE = Upstream("u", "esxi1.lab.example", 443, secure=True)
PORT = Upstream("u", "esxi1.lab.example", 8443, secure=True)


def view(upstream=SECURE, sent=None, secure=False, host=b"proxy.example:81"):
    return ResponseRewriter.of(upstream, sent or upstream.authority.encode(), secure, host)


LOCATIONS = {
    b"https://esxi1.lab.example/ui/": b"http://proxy.example:81/ui/",
    b"https://esxi1.lab.example:443/ui/?a=b#c": b"http://proxy.example:81/ui/?a=b#c",
    b"HTTPS://ESXI1.LAB.EXAMPLE/": b"http://proxy.example:81/",
    b"https://esxi1.lab.example": b"http://proxy.example:81",
    b"//esxi1.lab.example/ui/": b"//proxy.example:81/ui/",
    b"/ui/": b"/ui/",
    b"ui/": b"ui/",
    b"?a": b"?a",
    b"": b"",
    b"http://esxi1.lab.example/": b"http://esxi1.lab.example/",
    b"https://esxi1.lab.example:8443/": b"https://esxi1.lab.example:8443/",
    b"https://esxi1.lab.example.evil/": b"https://esxi1.lab.example.evil/",
    b"https://esxi1.lab.example@evil/": b"https://esxi1.lab.example@evil/",
    b"https://esxi1.lab.example\\@evil/": b"https://esxi1.lab.example\\@evil/",
    b"https://other/?u=https://esxi1.lab.example/": b"https://other/?u=https://esxi1.lab.example/",
    b"//evil/": b"//evil/",
    b"/\\evil": b"/\\evil",
    b"mailto:x@esxi1.lab.example": b"mailto:x@esxi1.lab.example",
}


@pytest.mark.parametrize(("sent", "seen"), LOCATIONS.items())
def test_a_location_that_names_the_upstream_names_us(sent, seen):
    assert view().location(sent) == seen
    assert view().response_fields(((b"Location", sent), (b"Content-Location", sent), (b"X", sent))) == [
        (b"Location", seen),
        (b"Content-Location", seen),
        (b"X", sent),
    ]


def test_the_scheme_is_the_clients():
    assert view(secure=True).location(b"https://esxi1.lab.example/") == b"https://proxy.example:81/"


def test_a_port_is_a_part_of_the_name():
    assert view(PORT).location(b"https://esxi1.lab.example:8443/") == b"http://proxy.example:81/"
    assert view(PORT).location(b"https://esxi1.lab.example/") == b"https://esxi1.lab.example/"


def test_the_host_field_that_was_sent_is_a_name_of_the_upstream_too():
    sent = view(SECURE, sent=b"proxy.example:81")
    assert sent.location(b"https://proxy.example:81/") == b"http://proxy.example:81/"
    assert view(SECURE, sent=b"vc.example").location(b"https://vc.example/") == b"http://proxy.example:81/"


def test_an_address_of_ipv6_is_a_name():
    six = Upstream("u", "2001:db8::1", 443, secure=True)
    assert view(six).location(b"https://[2001:db8::1]/x") == b"http://proxy.example:81/x"
    assert view(six).location(b"https://[2001:db8::1]:443/x") == b"http://proxy.example:81/x"


def test_a_client_without_a_host_sees_the_original():
    assert view(host=None).location(b"https://esxi1.lab.example/") == b"https://esxi1.lab.example/"


@pytest.mark.parametrize("control", [b"\x01", b"\0", b"\x1f", b"\x0b", b" ", b"\t", b"\x08\x01 "])
@pytest.mark.parametrize("target", [b"//evil/y", b"/\\evil", b"https://evil/", b"javascript:x"])
def test_control_characters_that_a_browser_removes_hide_no_foreign_location(control, target):
    assert view().leads_past(control + target)
    assert view().leads_past(target[:1] + control + target[1:])


@pytest.mark.parametrize("location", [b"\x01%b", b"ht\tt%b", b"%b\t/x"])
def test_control_characters_hide_no_location_at_the_upstream(location):
    """A location that is not rewritten is sent as it is, and a browser reads it without the characters."""
    rest = b"ps://esxi1.lab.example" if location.startswith(b"ht") else b"https://esxi1.lab.example"
    sent = view().location(location % rest)
    assert sent == location % rest and view().leads_past(sent)


@pytest.mark.parametrize("location", [b"/ui/", b"ui", b"\x01/ui/", b"/ui /x", b"http://proxy.example:81/"])
def test_a_location_of_ours_leads_nowhere_else(location):
    assert not view().leads_past(location)


COOKIES = {
    b"a=b": (b"a=b", b"a=b"),
    b"a=b; Path=/; Secure; HttpOnly": (b"a=b; Path=/; HttpOnly", b"a=b; Path=/; Secure; HttpOnly"),
    b"a=b;secure": (b"a=b", b"a=b;secure"),
    b"a=b; SECURE ; SameSite=None": (b"a=b", b"a=b; SECURE ; SameSite=None"),
    b"a=b; Secure; SameSite=Lax": (b"a=b; SameSite=Lax", b"a=b; Secure; SameSite=Lax"),
    b"a=b; Domain=esxi1.lab.example": (b"a=b", b"a=b"),
    b"a=b; domain=.ESXI1.lab.example; Path=/": (b"a=b; Path=/", b"a=b; Path=/"),
    b"a=b; Domain=lab.example": (b"a=b", b"a=b"),
    b"a=b; Domain=example": (b"a=b; Domain=example", b"a=b; Domain=example"),
    b"a=b; Domain=other.org": (b"a=b; Domain=other.org", b"a=b; Domain=other.org"),
    b"a=Domain=esxi1.lab.example": (b"a=Domain=esxi1.lab.example",) * 2,
    b"secure=1; Secure": (b"secure=1", b"secure=1; Secure"),
}


@pytest.mark.parametrize(("sent", "seen"), COOKIES.items())
def test_a_cookie_is_one_that_the_browser_takes_from_us(sent, seen):
    assert (view().cookie(sent), view(secure=True).cookie(sent)) == seen


PREFIXED = ResponseRewriter.of(
    Upstream("u", "esxi1.example", 443, secure=True), b"esxi1.example", True, b"proxy.example", b"/h/esx01"
)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"/ui/", b"/h/esx01/ui/"),
        (b"https://esxi1.example/ui/?a=b", b"https://proxy.example/h/esx01/ui/?a=b"),
        (b"https://esxi1.example", b"https://proxy.example/h/esx01/"),
        (b"https://esxi1.example?a", b"https://proxy.example/h/esx01/?a"),
        (b"//esxi1.example/ui", b"//proxy.example/h/esx01/ui"),
        (b"https://other.example/ui", b"https://other.example/ui"),
        (b"//other.example/ui", b"//other.example/ui"),
        (b"ui/next", b"ui/next"),
        (b"?page=2", b"?page=2"),
    ],
)
def test_a_location_gets_the_prefix_of_the_host(sent, seen):
    assert PREFIXED.location(sent) == seen


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"sid=1; Path=/; Secure", b"sid=1; Path=/h/esx01/; Secure"),
        (b"sid=1; path=/ui", b"sid=1; path=/h/esx01/ui"),
        (b"sid=1; Path=ui", b"sid=1; Path=ui"),
        (b"sid=1", b"sid=1"),
    ],
)
def test_the_path_of_a_cookie_gets_the_prefix_of_the_host(sent, seen):
    assert PREFIXED.cookie(sent) == seen
