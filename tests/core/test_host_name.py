"""Which texts are a plain host, and which are an address that only some programs understand."""

import pytest

from esxiproxy.core.host_name import plain_host

GOOD = {
    "esx1": "esx1",
    "ESX1.Lab.Example.": "esx1.lab.example",
    "a-b_c.x": "a-b_c.x",
    "_srv.example.com": "_srv.example.com",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "10.esx.example": "10.esx.example",
    "0x7f.example": "0x7f.example",
    "1e1": "1e1",
    "192.0.2.7": "192.0.2.7",
    "127.0.0.1": "127.0.0.1",
    "2001:db8::1": "2001:db8::1",
    "2001:DB8::A": "2001:db8::a",
    "::1": "::1",
    "a" * 63: "a" * 63,
}


@pytest.mark.parametrize(("text", "host"), GOOD.items())
def test_a_plain_host_is_returned_in_one_form(text, host):
    assert plain_host(text) == host


BAD = [
    *("", ".", "..", "a..b", ".a", "a..", "-a", "a-", "a.-b", "a b", " a", "a ", "a\n", "a\tb", "a\0"),
    *("a%00", "a%2e", "%61", "user@a", "user:pw@a", "a/b", "a\\b", "a?b", "a#b", "a:443", "a:", ":443", "*"),
    *("[::1]", "[::1]:443", "fe80::1%eth0", "fe80::1%", "::1%25lo", "a,b", "a;b", "é.example", "ａ.example"),
    *("１２７.0.0.1", "127。0。0。1", "127.1", "127.0.1", "127", "2130706433", "0177.0.0.1", "127.0.0.01"),
    *("0x7f.1", "0x7f000001", "0x7f.0.0.1", "127.0.0.0x1", "1.0x", "0X7F.1", "256.0.0.1", "1.2.3.4.5"),
    *("127.0.0.1.", "2130706433.", "0x7f.1.", "esx.1", "esx.0x1", "1.2.3", "0", "00", "0x"),
    *("2001:db8:0:0::1", "2001:0db8::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1"),
    *("1::2::3", ":::", "::g", "::127.0.0.1", "64:ff9b::10.0.0.1", "a" * 64),
    *("a." * 127 + "a", "a" * 100_000, ":" * 100_000),
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:20]))
def test_everything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"^the host") as caught:
        plain_host(text)
    assert len(str(caught.value)) < 100
