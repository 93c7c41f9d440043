"""The keys of a listener that changes tickets, and the problems that `check` finds in each of them."""

from __future__ import annotations

import ssl
from ipaddress import ip_network

import pytest

from esxiproxy.app.preflight import load
from esxiproxy.app.ticket_filters import ticket_filters
from esxiproxy.core.config.errors import ConfigError
from esxiproxy.net.tls.pem import TLSFileError
from tests.support.config import ini, listener, router, template, upstream

GOOD = {
    "http": "forward",
    "router": "issued, static",
    "public_url": "https://c.example.com:8443",
    "tickets": "rewrite",
    "tickets_allow": "10.0.0.0/8, 2001:db8::/32",
}


@pytest.fixture
def check(tmp_path, authority):
    """Return the configuration, or its problems."""
    certificate = authority.server()

    (tmp_path / "x.pem").write_bytes(certificate.path.read_bytes())

    def check(has_tls=True, **changed):
        tls = certificate if has_tls else None
        sections = (
            listener(tls=tls, **{**GOOD, **changed}),
            upstream("wss://192.0.2.1"),
            router("issued", "issued", template="hosts"),
            template("hosts"),
            router("old", "static", more="match.a = path:/x -> esxi1"),
        )
        (tmp_path / "x.ini").write_text(ini(*sections))
        try:
            return load(tmp_path / "x.ini")
        except ConfigError as error:
            return [f"{problem.key}: {problem.text}" for problem in error.problems if problem.is_error]

    return check


def test_a_listener_that_changes_tickets(check, authority):
    config = check()
    rule = config.listeners[0].tickets
    assert rule.networks == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    filters = ticket_filters(config.listeners[0], None)
    assert (filters.address.host, filters.address.port) == ("c.example.com", 8443)
    assert filters.address.certificate == ssl.PEM_cert_to_DER_cert(rule.certificate.read_text())
    in_front = authority.server()
    other = check(has_tls=False, public_certificate=in_front.path).listeners[0]
    assert ticket_filters(other, None).address.certificate == in_front.der
    plain = check(tickets=None, tickets_allow=None).listeners[0]
    assert plain.tickets is None and ticket_filters(plain, None) is None


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"http": "refuse"}, "tickets: rewrite only with http = forward"),
        ({"tickets_allow": None}, "tickets: rewrite needs tickets_allow, the networks of the hosts"),
        ({"tickets_allow": "10.0.0.1/8"}, "tickets_allow: '10.0.0.1/8' has host bits set"),
        ({"has_tls": False}, "tickets: rewrite needs a certificate, or a public_certificate"),
        ({"router": None}, "tickets: rewrite needs a router of the type issued"),
        ({"public_url": None}, "tickets: rewrite needs a public_url"),
        ({"public_url": "http://c.example.com"}, "public_url: tickets = rewrite needs https://HOST"),
        ({"public_url": "https://c.example.com/a"}, "public_url: tickets = rewrite needs https://HOST"),
        ({"tickets": None}, "tickets_allow: only with tickets = rewrite"),
        (
            {"tickets": None, "tickets_allow": None, "public_url": None, "public_certificate": "x.pem"},
            "public_certificate: ",
        ),
        ({"tickets": "both"}, "tickets: "),
        ({"router": "static, issued"}, "router: static answers every request, so issued behind it"),
        (
            {"router": "old, issued", "upstream": None},
            "router: static answers every request, so issued behind it",
        ),
        ({"paths": "/sdk, /ticketx"}, "paths: leaves out /ticket"),
        ({"public_certificate": "missing.pem"}, "public_certificate: no such file"),
    ],
)
def test_mistakes(check, changed, problem):
    (found,) = check(**changed)
    assert found.startswith(problem)


def test_a_path_or_its_parent_serves_tickets(check):
    for paths in ("/sdk, /ticket", "/sdk, /ticket/", "/"):
        assert check(paths=paths).listeners[0].tickets is not None, paths


def test_a_router_without_tickets_is_warned_of(check):
    def warnings(config):
        return [each.text for each in config.warnings if "tickets = rewrite" in each.text]

    assert warnings(check()) == []
    (warning,) = warnings(check(tickets=None, tickets_allow=None))
    assert warning.startswith("opens no console, since no listener")


def test_a_certificate_that_cannot_be_read_is_named(check, authority):
    config = check()
    rule = config.listeners[0].tickets
    rule.certificate.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    with pytest.raises(TLSFileError, match="cannot be read"):
        ticket_filters(config.listeners[0], None)
