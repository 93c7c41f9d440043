"""The hosts of an inventory file, and its mistakes with their lines."""

import json
import time
from dataclasses import fields
from pathlib import Path

import pytest

from esxiproxy.core import inventory_rows
from esxiproxy.core.config.schema import CONNECTION_LIMIT_KEYS, SESSION_LIMIT_KEYS
from esxiproxy.core.inventory import InventoryError, parse_inventory, read_inventory, replaced
from esxiproxy.core.inventory_rows import MAX_MISTAKES, UPSTREAM_KEYS
from esxiproxy.core.networks import Networks
from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.routing import Identity, Subprotocol, TCPAddress, TLSProfile, Upstream, Verify
from esxiproxy.core.thumbprint import Pin

A, B = "a" * 64, "b" * 40
TEMPLATE = Upstream("esx", "", 0, secure=True, overrides={"idle_timeout": 60.0, "max_frame": 5})
PINNED = Upstream("esx", "", 0, secure=True, verify=Verify.PIN)
NETWORKS = Networks()
FILE = Path("/lists/hosts.csv")


def hosts(text, template=TEMPLATE):
    return parse_inventory(text if isinstance(text, bytes) else text.encode(), template, NETWORKS, FILE)


def mistakes(text, template=TEMPLATE):
    with pytest.raises(InventoryError) as caught:
        hosts(text, template)
    return [line.removeprefix(f"{FILE}:") for line in caught.value.lines]


def destination(text, name="a", template=TEMPLATE):
    return hosts(text, template)[name].route.destination


CSV = f"""name,address,pins,labels
Esx1.Lab.,10.0.0.1,sha256:{A} sha1:{B},rack=a1 site=north
esx2,esx2.lab.example:8443,,

"esx3", wss://[2001:db8::1]:444 ,,
esx4,ws://10.0.0.4
"""
JSON = json.dumps(
    [
        {"name": "Esx1.Lab.", "address": "10.0.0.1", "pins": [f"sha256:{A}", f"sha1:{B}"], "labels": None},
        {"name": "esx2", "address": "esx2.lab.example:8443", "labels": {}},
        {"name": "esx3", "address": "wss://[2001:db8::1]:444", "pins": ""},
        {"address": "ws://10.0.0.4", "name": "esx4"},
    ],
    indent=1,
)


@pytest.mark.parametrize("text", [CSV, "\ufeff" + CSV, CSV.replace("\n", "\r\n"), JSON], ids=range(4))
def test_hosts_are_read(text):
    found = hosts(text)
    assert list(found) == ["esx1.lab", "esx2", "esx3", "esx4"]
    first = found["esx1.lab"].route.destination
    assert first.addresses == (TCPAddress("10.0.0.1", 443),)
    assert first.identity == Identity(pins=(Pin("sha256", A), Pin("sha1", B)))
    assert (first.secure, first.name, first.template, first.networks) == (
        True,
        "esx1.lab",
        TEMPLATE,
        NETWORKS,
    )
    assert [host.route.destination.addresses[0] for host in found.values()] == [
        TCPAddress("10.0.0.1", 443),
        TCPAddress("esx2.lab.example", 8443),
        TCPAddress("2001:db8::1", 444),
        TCPAddress("10.0.0.4", 80),
    ]
    assert [host.route.destination.secure for host in found.values()] == [True, True, True, False]
    assert found["esx2"].route.destination.template is TEMPLATE and found["esx2"].route.target is None


def test_labels_are_read():
    assert hosts(CSV)["esx1.lab"].labels == {"rack": "a1", "site": "north"}
    assert hosts('[{"name": "a", "address": "b", "labels": {"rack": "a1"}}]')["a"].labels == {"rack": "a1"}
    assert hosts('[{"name": "a", "address": "b", "labels": "rack=a1 x=y=z"}]')["a"].labels["x"] == "y=z"


@pytest.mark.parametrize("text", ["name,address\n", "address,name", "[]", " [ ] \n"])
def test_a_list_may_be_empty(text):
    assert hosts(text) == {}


FURTHER = "name,address,idle_timeout,max_connections,host,tls_profile,ping_interval,keepalive\n"


def test_further_columns_are_keys_of_the_upstream():
    found = hosts(
        FURTHER + "a,10.0.0.1,5m,9,esx.lab,old,3s,off\nb,10.0.0.2,5m,9,esx.lab,old,3s,off\nc,10.0.0.3,,,,,,\n"
    )
    first, second, third = (host.route.destination.template for host in found.values())
    assert first.overrides["idle_timeout"] == 300.0 and first.overrides["max_frame"] == 5
    assert first.overrides["ping_interval"] == 3.0 and first.overrides["tcp_keepalive"] is None
    assert first.connection_limits == {"max_connections": 9}
    assert (first.host_field, first.tls_profile, first.name) == ("esx.lab", TLSProfile.OLD, "esx")
    assert second is first and third is TEMPLATE


def test_every_key_of_the_upstream_is_a_setting_of_its_host():
    known = {field.name for field in fields(Upstream)} | SESSION_LIMIT_KEYS | CONNECTION_LIMIT_KEYS
    assert UPSTREAM_KEYS.keys() - known == {"origin", "keepalive"}
    template = destination("name,address,origin,subprotocol,send_proxy_protocol\na,b,none,pass,v2\n").template
    assert (template.origin_field, template.subprotocol, template.send_proxy_protocol) == (
        "none",
        Subprotocol.PASS,
        ProxyVersion.V2,
    )


def test_a_number_in_json_is_a_value():
    template = destination('[{"name": "a", "address": "b", "max_connections": 9}]').template
    assert template.connection_limits == {"max_connections": 9}


@pytest.mark.parametrize("verify", [Verify.SYSTEM, Verify.NONE, Verify.CA, Verify.PIN])
def test_pins_stand_beside_the_verification_of_the_template(verify):
    template = Upstream("esx", "", 0, secure=True, verify=verify, ca=Path("ca.pem"))
    identity = destination(f"name,address,pins\na,b,sha256:{A}\n", template=template).identity
    assert (identity.verify, identity.ca, identity.pins) == (verify, Path("ca.pem"), (Pin("sha256", A),))


HEAD = "name,address,pins,labels\n"
BAD = {
    "": ["1: is empty: write a header as in name,address,pins,labels"],
    "\n\n": ["1: is empty: write a header as in name,address,pins,labels"],
    "name\n": ["1: has no column address"],
    "esx1,10.0.0.1\n": [
        "1: 'esx1' is no column: write name, address, pins, labels or a key of [upstream]",
        "1: '10.0.0.1' is no column: write name, address, pins, labels or a key of [upstream]",
        "1: has no column name",
        "1: has no column address",
    ],
    "name,address,url,verify,ca,pin,adress,name\na,b": [
        "1: url is no column: write the column address",
        "1: verify is no column: it is the same for all hosts, and belongs to the template",
        "1: ca is no column: it is the same for all hosts, and belongs to the template",
        "1: pin is no column: write the column pins",
        "1: 'adress' is no column: did you mean address?",
        "1: the column 'name' is there twice",
    ],
    HEAD + "a,b,,,x\n": ["2: has 5 cells, and the header has 4"],
    HEAD + ",b\n,,sha256:aa\n": [
        "2: has no name",
        "3: has no name",
        "3: has no address",
        "3: a sha256 thumbprint has 64 hex digits, and this one has 2",
    ],
    HEAD + "a,b\nB,c\n\nA.,d\n": ["5: the host a is in line 2 already"],
    HEAD + '"a\n",b\n"c\nd",e\nf,"g\n': [
        "4: 'c\\nd' is no name of a host: letters, digits, '-', '_' and single dots",
        "6: is no CSV: unexpected end of data",
    ],
    HEAD + 'a,"b"c\nd e,f\n': [
        "2: is no CSV: ',' expected after '\"'",
        "3: 'd e' is no name of a host: letters, digits, '-', '_' and single dots",
    ],
    HEAD + "a,b,,rack\nc,d,,x=1 x=2\n": [
        "2: labels: 'rack' is no label: write key=value, separated by spaces",
        "3: labels: 'x' is there twice",
    ],
    HEAD + f"a,ws://b,sha256:{A}\n": ["2: pins only with wss://: a ws:// host has no certificate"],
    "name,address,tls_profile\na,ws://b,old\n": [
        "2: tls_profile only with wss://: a ws:// host speaks no TLS"
    ],
    "name,address,idle_timeout,host\na,b,5,x y\n": [
        "2: host: 'x y' cannot be sent: no spaces and nothing but ASCII in a field's value",
        "2: idle_timeout: '5' is no duration: write 500ms, 30s, 10m, 1h or 2d",
    ],
    "{}": ["1: is no list: write a list of objects with name and address"],
    "\n\n{": ["3: is no list: write a list of objects with name and address"],
    "[": ["1: is no JSON: Expecting value"],
    '[\n{"name": "a", "address": "b"}\n': ["3: is no JSON: a comma or the end of the list is missing"],
    '[\n{"name": "a", "address": "b"},\n]': ["3: is no JSON: Expecting value"],
    '[\n{"name": "a"\n"address": "b"}]': ["3: is no JSON: Expecting ',' delimiter"],
    "[]\nx": ["1: has text behind the end of the list"],
    '[{"name": "a", "address": "b"},\n 1, ["a"],\n\n"x"]': [
        "2: is no object: write a list of objects with name and address",
        "2: is no object: write a list of objects with name and address",
        "4: is no object: write a list of objects with name and address",
    ],
    '[\n{"name": "a",\n"address": "b", "name": "c"},{}]': [
        "2: 'name' is there twice",
        "3: has no name",
        "3: has no address",
    ],
    '[{"name": 1, "address": ["b"], "pins": [1], "labels": {"a": 1}, "max_connections": true}]': [
        "1: name has a value of a wrong type: write a text",
        "1: address has a value of a wrong type: write a text",
        "1: pins has a value of a wrong type: write a list of thumbprints",
        "1: labels has a value of a wrong type: write an object with texts as values, without spaces",
        "1: max_connections has a value of a wrong type: write a text or a whole number",
    ],
    '[{"name": "a", "address": "b", "labels": {"a": "b c=d"}}]': [
        "1: labels has a value of a wrong type: write an object with texts as values, without spaces",
    ],
    '[{"name": "a", "address": "b", "url": "c", "verify": "none"}]': [
        "1: url is no column: write the column address",
        "1: verify is no column: it is the same for all hosts, and belongs to the template",
    ],
    'name,address,host\na,"b\nc","d\ne"\n': [
        "2: the address has a line break or a control character",
        "2: host: has a line break or a control character",
    ],
    '[{"name": "a", "address": NaN}]': ["1: is no JSON that can be read: NaN is no number"],
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=map(str, range(len(BAD))))
def test_a_mistake_has_its_line(text, expected):
    assert mistakes(text) == expected


ADDRESSES = [
    *(
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.01",
        "1.0x",
        "::1",
        "a:0",
        "a:65536",
    ),
    *(
        "a:",
        "a b",
        "a/x",
        "wss://a/x",
        "wss://a?x",
        "wss://a#x",
        "http://a",
        "https://a",
        "user@a",
        "vnc://a",
    ),
    *("wss://user:pw@a", "[::ffff:127.0.0.1]", "[fe80::1%eth0]", "[::1", "é", "a%00", "a..b", "-a", "wss://"),
    *("unix_socket:/x", "wss://0x7f.1", "wss://127.1:443"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_odd_address_is_a_mistake(address):
    found = mistakes(f"name,address\na,{address}\n")
    assert len(found) == 1 and found[0].startswith("2: ")


@pytest.mark.parametrize(
    "name", ["a b", "a/b", "a..b", ".a", "-a", "a:b", "a%41", "é", "\u212a", "a@b", "a" * 64, "*"]
)
def test_a_bad_name_is_a_mistake(name):
    assert mistakes(f"name,address\n{name},b\n")[0].startswith(f"2: '{name[:50]}")


def test_with_pin_every_row_needs_pins():
    text = HEAD + f"a,b\nc,d,sha256:{A}\ne,ws://f\n"
    assert mistakes(text, PINNED) == [
        "2: has no pins, and the template has verify = pin",
        "4: is a ws:// host, which has no certificate, and the template has verify = pin",
    ]


ENCODINGS = {
    b"name,address\na,b\nc,\xff\n": ["3: has a byte that is not UTF-8"],
    "name,address\n".encode("utf-16"): ["1: the file is UTF-16: save it as UTF-8"],
}


@pytest.mark.parametrize(("content", "expected"), ENCODINGS.items())
def test_a_file_is_utf_8(content, expected):
    assert mistakes(content) == expected


HOSTILE = {
    "brackets": "[" * 200_000,
    "nested": '[{"name": "a", "address": "b", "labels": ' + '{"a":' * 100_000,
    "number": '[{"name": "a", "address": "b", "max_connections": ' + "9" * 100_000 + "}]",
    "quote": HEAD + '"' + "a" * 1_000_000,
    "field": HEAD + "a" * 200_000 + ",b\n",
    "columns": ",".join("abcdefghij" for _ in range(100_000)),
    "rows": HEAD + ",\nx y,z\n" * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_time(text):
    before = time.process_time()
    found = mistakes(text)
    assert 1 <= len(found) <= MAX_MISTAKES and time.process_time() - before < 5.0
    assert all(len(line) < 200 for line in found)


def test_an_inventory_has_a_limit(monkeypatch):
    monkeypatch.setattr(inventory_rows, "MAX_HOSTS", 3)
    text = HEAD + "".join(f"a{i},b\n" for i in range(4))
    assert mistakes(text) == ["5: is one row too many: an inventory has at most 3 hosts"]


@pytest.mark.parametrize(
    "address", ["user:hidden@b", "wss://user:hidden@b/x", "vnc://user:hidden@b", "a:hidden@b"]
)
def test_a_password_is_not_shown(address):
    assert mistakes(f"name,address\na,{address}\n") == [
        "2: the address has a user or a password: a host takes none"
    ]


def test_five_thousand_hosts_are_read_in_well_under_a_second():
    text = HEAD + "".join(f"esx{i},10.0.{i // 250}.{i % 250},sha256:{i:064x},rack=a\n" for i in range(5000))
    before = time.process_time()
    assert len(hosts(text)) == 5000
    assert time.process_time() - before < 1.0


FILES = {
    "none.csv": "1: no such file",
    "folder": "1: is a folder: name a CSV or JSON file",
    "large.csv": "1: is larger than 16 MiB",
    "a\0b": "1: cannot be read: embedded null byte",
}


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path, name, expected):
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(InventoryError) as caught:
        read_inventory(tmp_path / name, TEMPLATE, NETWORKS)
    assert str(caught.value) == f"{tmp_path / name}:{expected}"


def test_the_error_is_one_line():
    with pytest.raises(InventoryError) as caught:
        hosts(HEAD + ",b\n" * 5)
    assert str(caught.value) == (
        f"{FILE}:2: has no name; {FILE}:3: has no name; {FILE}:4: has no name; and 2 more"
    )


def test_a_host_with_another_address_or_pin_is_replaced():
    old = hosts(HEAD + f"a,b\nc,d\ne,f\ng,h,sha256:{A}\ni,j,,x=1\nk,l\nm,n:444\n")
    new = hosts(HEAD + f"a,b\ne,f2\ng,h,sha1:{B}\ni,j,,x=2\nk,ws://l:443\nm,wss://n:444\nnew,x\n")
    assert replaced(old, new) == ("c", "e", "g", "k")
    assert replaced(old, old) == ()
