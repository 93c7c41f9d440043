"""The key `locate`: the value that it reads from a request, and the target for the upstream."""

import pytest

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.locate import Locate, LocateKind, locate, locate_type
from tests.support.requests import request

GOOD = {
    "path:/h/{host}/": Locate(LocateKind.PATH, b"/h/", is_folder=True),
    "path:/h/{host}": Locate(LocateKind.PATH, b"/h/"),
    "path:/{host}/": Locate(LocateKind.PATH, b"/", is_folder=True),
    "path:/a/b%20c/{host}/": Locate(LocateKind.PATH, b"/a/b%20c/", is_folder=True),
    "query:host": Locate(LocateKind.QUERY, b"host"),
    "host:{host}.Consoles.example.com": Locate(LocateKind.HOST, b".consoles.example.com"),
    "host:{host}.lab.": Locate(LocateKind.HOST, b".lab"),
    "cookie:__Host-esx": Locate(LocateKind.COOKIE, b"__Host-esx"),
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items(), ids=GOOD.keys())
def test_a_place_is_read(text, expected):
    assert locate(text, "host") == expected


BAD = {
    "": "is no place",
    "host": "is no place",
    "header:X-Host": "is no place: write path:/PREFIX/{host}/, query:NAME, host:{host}.consoles",
    "path:": "is no place in a path",
    "path:/h/": "is no place in a path",
    "path:/h/{token}/": "is no place in a path",
    "path:/h/{host}x/": "is no place in a path",
    "path:/h/x{host}/": "is no place in a path",
    "path:/h/{host}/x/": "is no place in a path",
    "path:/h/{host}/{host}/": "is no place in a path",
    "path:h/{host}/": "begin it with a slash",
    "path:/h?x=/{host}/": "begin it with a slash",
    "path:/{x}/{host}/": "begin it with a slash",
    "path:/h i/{host}/": "begin it with a slash",
    "path://h/{host}/": "in two ways",
    "path:/h/../{host}/": "in two ways",
    "path:/h%2f/{host}/": "in two ways",
    "query:": "is no parameter",
    "query:a&b": "is no parameter",
    "query:a=b": "is no parameter",
    "query:{host}": "is no parameter",
    "host:{host}": "is no place in a host",
    "host:{host}.": "is no place in a host",
    "host:x{host}.example.com": "is no place in a host",
    "host:x.{host}.example.com": "is no place in a host",
    "host:{host}.ex ample.com": "is no place in a host",
    "host:{host}..example.com": "is no place in a host",
    "cookie:": "is no cookie",
    "cookie:a b": "is no cookie",
    "cookie:a=b": "is no cookie",
    "cookie:a;b": "is no cookie",
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=BAD.keys())
def test_a_mistake_names_the_right_notation(text, expected):
    with pytest.raises(BadValue) as caught:
        locate(text, "host")
    assert expected in str(caught.value)


def test_the_placeholder_is_that_of_the_caller(tmp_path):
    assert locate_type("link").parse("path:/c/{link}", tmp_path) == Locate(LocateKind.PATH, b"/c/")
    with pytest.raises(BadValue, match=r"path:/PREFIX/\{link\}/"):
        locate_type("link").parse("path:/c/{host}", tmp_path)


FOUND = [
    ("path:/h/{host}/", b"/h/esx1/ticket/abc?x=1", "esx1", b"/ticket/abc?x=1"),
    ("path:/h/{host}/", b"/h/esx1/", "esx1", b"/"),
    ("path:/h/{host}/", b"/h/esx1/?host=x", "esx1", b"/?host=x"),
    ("path:/h/{host}/", b"/h/esx1/h/esx2/", "esx1", b"/h/esx2/"),
    ("path:/h/{host}/", b"/h/esx1/x?y=/../..//%2e", "esx1", b"/x?y=/../..//%2e"),
    ("path:/h/{host}/", b"/h/e%73x1/x%20y", "esx1", b"/x%20y"),
    ("path:/h/{host}/", b"/h/%C3%A9/", "é", b"/"),
    ("path:/h/{host}/", b"/h/a+b/", "a+b", b"/"),
    ("path:/h/{host}/", b"/h/esx1;x=1/", "esx1;x=1", b"/"),
    ("path:/h/{host}/", b"/h/esx1@evil/", "esx1@evil", b"/"),
    ("path:/h/{host}", b"/h/esx1", "esx1", b"/"),
    ("path:/h/{host}", b"/h/esx1?a", "esx1", b"/?a"),
    ("path:/h/{host}", b"/h/esx1/a", "esx1", b"/a"),
    ("path:/{host}/", b"/esx1/ticket/a", "esx1", b"/ticket/a"),
    ("query:host", b"/ticket/abc?host=esx1", "esx1", b"/ticket/abc"),
    ("query:host", b"/ticket/abc?a=%2f&host=esx1&b=+", "esx1", b"/ticket/abc?a=%2f&b=+"),
    ("query:host", b"/?&host=esx1&&x", "esx1", b"/?&&x"),
    ("query:host", b"/?ho%73t=esx1&x", "esx1", b"/?x"),
    ("query:host", b"/?host=esx1&host=esx2", "esx1", b"/"),
    ("query:host", b"/?host=&x&host=esx2", "esx2", b"/?x"),
    ("query:host", b"/?host=a+b%2Bc%20d", "a b+c d", b"/"),
    ("query:host", b"/?host=a=b", "a=b", b"/"),
    ("query:host", b"/?host=esx1;x=y", "esx1;x=y", b"/"),
    ("query:host", b"/?host=e%2573x1", "e%73x1", b"/"),
    ("query:host", b"/a/../b//?host=esx1", "esx1", b"/a/../b//"),
]


@pytest.mark.parametrize(("rule", "target", "value", "left"), FOUND)
def test_a_value_is_found_and_cut_out(rule, target, value, left):
    place, asked = locate(rule, "host"), request(target)
    assert (place.find(asked), place.target(asked)) == (value, left)


ABSENT = [
    ("path:/h/{host}/", b"/h/esx1"),
    ("path:/h/{host}/", b"/h/esx1?x=/"),
    ("path:/h/{host}/", b"/h/"),
    ("path:/h/{host}/", b"/h"),
    ("path:/h/{host}/", b"/hh/esx1/"),
    ("path:/h/{host}/", b"/H/esx1/"),
    ("path:/h/{host}/", b"/x/h/esx1/"),
    ("path:/h/{host}/", b"/x?/h/esx1/"),
    ("query:host", b"/?Host=esx1"),
    ("query:host", b"/?host"),
    ("query:host", b"/?host="),
    ("query:host", b"/?xhost=esx1&hostx=esx1"),
    ("query:host", b"/?x=1;host=esx1"),
    ("query:host", b"/?ho%2573t=esx1"),
    ("query:host", b"/host=esx1"),
    ("cookie:esx", b"/?esx=1"),
]


@pytest.mark.parametrize(("rule", "target"), ABSENT)
def test_a_request_without_the_value_is_not_for_this_router(rule, target):
    assert locate(rule, "host").find(request(target)) is None


REFUSED = [
    *(b"/h/esx1/../esx2/", b"/h/./esx1/", b"/h/esx1/%2e%2e/", b"/h/esx1%2f..%2fesx2/", b"/h//esx1/"),
    *(b"//h/esx1/", b"/h/esx1//x", b"/h/..;/esx1/", b"/h/e%2573x1/", b"/h/esx1%00/", b"/h/esx1%0a/"),
    *(b"/h/\\esx1/", b"/h/esx1%5c/", b"/h/%", b"/h/%zz/", b"/h/%u002e/", b"/h/%c0%ae/", b"/h/%ff/"),
    *(b"/x/%2e%2e/h/esx1/", b"/h/%ef%bc%8f/"),
]


@pytest.mark.parametrize("target", REFUSED)
def test_an_ambiguous_path_matches_no_rule(target):
    with pytest.raises(RouteNotFound, match="ambiguous"):
        locate("path:/h/{host}/", "host").find(request(target))


@pytest.mark.parametrize("value", [b"%", b"%4", b"%zz", b"%u0065", b"%ff", b"%c0%ae", b"%ed%a0%80", b"a%"])
def test_a_value_is_decoded_strictly(value):
    with pytest.raises(RouteNotFound, match="not percent-encoded UTF-8") as caught:
        locate("query:host", "host").find(request(b"/?host=" + value))
    assert value.decode() not in str(caught.value)
    with pytest.raises(RouteNotFound, match="the cookie has a value"):
        locate("cookie:esx", "host").find(request(b"/", (b"Cookie", b"esx=" + value)))


HOSTS = {
    b"esx1.consoles.example.com": "esx1",
    b"ESX1.Consoles.Example.COM.:8443": "esx1",
    b"a.esx1.consoles.example.com": None,
    b"consoles.example.com": None,
    b".consoles.example.com": None,
    b"esx1.consoles.example.com.evil": None,
    b"esx1xconsoles.example.com": None,
    b"esx1.consoles.example.com..": None,
    b"[::1]": None,
}


@pytest.mark.parametrize(("host", "value"), HOSTS.items())
def test_a_host_has_the_value_as_its_first_label(host, value):
    place, asked = locate("host:{host}.consoles.example.com", "host"), request(b"/x?y", host=host)
    assert (place.find(asked), place.target(asked)) == (value, b"/x?y")


def test_the_host_is_that_of_the_clients_url():
    asked = request(b"/", host=b"inner", public_host=b"esx1.lab:8443")
    assert locate("host:{host}.lab", "host").find(asked) == "esx1"


COOKIES = {
    (b"esx=esx1",): "esx1",
    (b"a=b; esx=esx1; c=d",): "esx1",
    (b"a=b", b"esx=esx1"): "esx1",
    (b"a=b;esx=e%73x1",): "esx1",
    (b'esx="esx1"',): "esx1",
    (b"esx=; esx=esx1; esx=esx2",): "esx1",
    (b"esx=a=b",): "a=b",
    (b"xesx=esx1; ESX=esx1; esx",): None,
    (b'esx=""',): None,
    (): None,
}


@pytest.mark.parametrize(("fields", "value"), COOKIES.items())
def test_a_cookie_has_the_value(fields, value):
    asked = request(b"/x?esx=2", *((b"Cookie", field) for field in fields))
    place = locate("cookie:esx", "host")
    assert (place.find(asked), place.target(asked)) == (value, b"/x?esx=2")


def test_the_removed_and_hidden_parts_depend_on_the_place():
    by_path, by_query, by_host, by_cookie = (
        locate(text, "t") for text in ("path:/c/{t}", "query:t", "host:{t}.lab", "cookie:t")
    )
    assert [place.secrets for place in (by_path, by_query, by_host, by_cookie)] == [
        (("path", b"/c/"),),
        (("query", b"t"),),
        (),
        (("cookie", b"t"),),
    ]
    assert [place.ambient for place in (by_path, by_query, by_host, by_cookie)] == [False, False, False, True]
    assert by_cookie.cookies == {b"t"} and not by_path.cookies | by_query.cookies | by_host.cookies
    assert [place.prefix("é/x") for place in (by_path, by_query)] == [b"/c/%C3%A9%2Fx", b""]
