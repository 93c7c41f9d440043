"""The router `static`: which line of it fits a request, and mistakes in its lines."""

import pytest
from twisted.internet.defer import Deferred

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.plugin_type import Names, settings_of
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.routers.static import TYPE

UPSTREAMS = {name: Upstream(name, f"{name}.example", 443, secure=True) for name in ("lab", "prod", "rest")}


class Context:
    section = "router fleet"
    upstreams = UPSTREAMS


def router(tmp_path, **texts):
    return TYPE.create(settings_of(TYPE, SectionKind.ROUTER, texts, tmp_path), Context())


def ask(router, target="/ticket/abc", host="proxy.example", server_name=None):
    """Return the name of the upstream that a request is sent to."""
    head = parse(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    request = Request("s", "one", PeerAddress("192.0.2.7", 1), True, head, server_name=server_name)
    found = []
    Deferred.fromCoroutine(router.route(request, Principal("anonymous"))).addBoth(found.append)
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    assert found[0].target is None, "the target is the client's"
    return found[0].upstream.name


HOSTS = {
    "esx1.lab.example.com": "lab",
    "ESX1.Lab.Example.Com": "lab",
    "esx1.lab.example.com:8443": "lab",
    "esx1.lab.example.com.": "lab",
    "lab.example.com": "rest",
    "a.esx1.lab.example.com": "rest",
    ".lab.example.com": "rest",
    "esx1.lab.example.com.evil.example": "rest",
    "[2001:db8::1]": "rest",
}


@pytest.mark.parametrize(("host", "expected"), HOSTS.items())
def test_a_star_stands_for_one_label(tmp_path, host, expected):
    static = router(tmp_path, upstream="rest", **{"match.a": "host:*.lab.example.com -> lab"})
    assert ask(static, host=host) == expected


def test_all_conditions_of_a_line_have_to_hold(tmp_path):
    static = router(
        tmp_path, upstream="rest", **{"match.a": "host:*.example.com sni:*.example.com path:/ticket -> lab"}
    )
    good = {"host": "a.example.com", "server_name": "a.example.com", "target": "/ticket/x"}
    assert ask(static, **good) == "lab"
    for wrong in ({"host": "a.example.org"}, {"server_name": None}, {"target": "/tickets/x"}):
        assert ask(static, **{**good, **wrong}) == "rest", wrong


def test_the_first_line_of_the_file_wins(tmp_path):
    lines = {"match.z": "path:/ui -> prod", "match.a": "path:/ui/old -> lab"}
    assert ask(router(tmp_path, **lines), "/ui/old/x") == "prod"
    assert ask(router(tmp_path, **dict(reversed(lines.items()))), "/ui/old/x") == "lab"


def test_without_an_upstream_for_the_rest_it_is_a_404(tmp_path):
    static = router(tmp_path, **{"match.a": "path:/ui -> prod"})
    with pytest.raises(RouteNotFound):
        ask(static, "/ticket/abc")


@pytest.mark.parametrize("target", ["//ui", "/x/../ui", "/%75i/%2e%2e/a", "/ui%2f", "/a//b"])
def test_an_ambiguous_path_has_no_upstream_where_paths_matter(tmp_path, target):
    lines = {"match.a": "path:/ui -> prod", "upstream": "rest"}
    with pytest.raises(RouteNotFound):
        ask(router(tmp_path, **lines), target)
    assert ask(router(tmp_path, upstream="rest"), target) == "rest"


BAD = {
    "host:a.example lab": "is no match",
    "-> lab": "is no match",
    "host:a.example ->": "is no match",
    "host: -> lab": "is no name",
    "host:a*.example -> lab": "is no name",
    "host:a..example -> lab": "is no name",
    "sni:a_.-.example -> lab": "is no name",
    "path:ui -> lab": "is no path prefix",
    "path:/a//b -> lab": "can be read in two ways",
    "path:/a,/b -> lab": "is no condition",
    "port:80 -> lab": "is no condition",
    "host:a.example host:b.example -> lab": "given twice",
    "host:a.example -> lab/prod": "is no name",
}


@pytest.mark.parametrize(("line", "text"), BAD.items())
def test_a_mistake_in_a_line_is_named(tmp_path, line, text):
    with pytest.raises(BadValue, match=text):
        settings_of(TYPE, SectionKind.ROUTER, {"match.a": line}, tmp_path)


def test_an_upstream_that_does_not_exist_is_found(tmp_path):
    names = Names(UPSTREAMS, frozenset({"prod"}))

    def conflicts(**texts):
        return dict(TYPE.conflicts(settings_of(TYPE, SectionKind.ROUTER, texts, tmp_path), names))

    assert conflicts(upstream="gone") == {"upstream": "no [upstream gone]: there is lab, prod, rest"}
    assert conflicts(**{"match.a": "path:/ui -> prod"}) == {
        "match.a": "[upstream prod] has no url to connect to"
    }
    assert "missing" in conflicts()["upstream"]
    assert conflicts(**{"match.a": "path:/ui -> lab"}) == {}
