"""Addresses that may be dialled: other forms of an address are judged by the address inside."""

from ipaddress import ip_address, ip_network

import pytest

from esxiproxy.core.networks import UNCHECKED, Networks, canonical, embedded, is_special

FORMS = {
    "::ffff:127.0.0.1": "127.0.0.1",
    "::127.0.0.1": "127.0.0.1",
    "64:ff9b::7f00:1": "127.0.0.1",
    "64:ff9b:1::a9fe:a9fe": "169.254.169.254",
    "2002:7f00:1::": "127.0.0.1",
    "::1": "::1",
    "::": "::",
    "2001:db8::1": "2001:db8::1",
    "192.0.2.1": "192.0.2.1",
}


@pytest.mark.parametrize(("form", "inside"), FORMS.items())
def test_a_form_stands_for_the_address_inside(form, inside):
    assert embedded(ip_address(form)) == ip_address(inside)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_a_special_address_has_to_be_allowed_by_name(text):
    address = ip_address(text)
    inside = embedded(address)
    assert is_special(inside)
    assert not Networks().permits(address)
    assert Networks(allow=(ip_network(inside),)).permits(address)
    assert UNCHECKED.permits(address)


@pytest.mark.parametrize("text", ["10.0.0.1", "100.64.0.1", "192.168.1.1", "2001:db8::1", "fd00::1"])
def test_a_private_address_may_be_a_host_of_a_list(text):
    assert Networks().permits(ip_address(text))


def test_only_allowed_addresses_may_be_dialled():
    networks = Networks(allow=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    for text in ("10.1.2.3", "fd00::1", "::ffff:10.1.2.3", "64:ff9b::a01:203"):
        assert networks.permits(ip_address(text)), text
    for text in ("11.0.0.1", "127.0.0.1", "2001:db8::1", "::ffff:11.0.0.1"):
        assert not networks.permits(ip_address(text)), text


def test_denied_networks_precede_allowed_ones():
    networks = Networks(allow=(ip_network("10.0.0.0/8"),), deny=(ip_network("10.0.0.1"),))
    assert networks.permits(ip_address("10.0.0.2"))
    assert not networks.permits(ip_address("10.0.0.1"))
    assert not networks.permits(ip_address("::ffff:10.0.0.1"))
    assert not Networks(deny=(ip_network("64:ff9b::/96"),)).permits(ip_address("64:ff9b::a00:2"))


def test_connections_are_counted_by_one_form_of_an_address():
    assert canonical("::ffff:192.0.2.1") == canonical("192.0.2.1") == "192.0.2.1"
    assert canonical("2001:DB8:0::1") == "2001:db8::1"
    assert canonical("fe80::1%eth0") == "fe80::1"
