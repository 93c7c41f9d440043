"""Rules for machines: who is named, which machines fit, and what the configuration refuses."""

from dataclasses import dataclass, field
from time import perf_counter

import pytest

from esxiproxy.core.access import AccessRule, AccessRules, Right
from esxiproxy.core.config import access as section
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.routing import Principal
from tests.core.config_text import L, problems, read
from tests.support.plugin_types import PluginType, types

ALICE = Principal("alice", authenticator="authenticator staff", groups=frozenset({"operators", "Day"}))
ANONYMOUS = types(authenticators=[PluginType("anonymous")])


@dataclass(frozen=True)
class Box:
    """A machine of an inventory."""

    vsphere: str = "dc1"
    name: str = "web-01"
    folder: str = "/Prod/Web"
    host: str = "esx12.example.com"
    tags: frozenset[str] = field(default_factory=lambda: frozenset({"Console", "linux"}))


def rule(who="alice", what="name:*", may="open", name="r"):
    return AccessRule(name, frozenset(section.who(who)), section.what(what), section.may(may))


def opens(who, principal=ALICE):
    return Right.OPEN in AccessRules([rule(who)]).rights(principal, Box())


@pytest.mark.parametrize("who", ["alice", "staff/alice", "@operators", "bob, alice", "@nobody, @Day"])
def test_a_rule_names_a_principal(who):
    assert opens(who)


@pytest.mark.parametrize(
    "who",
    ["Alice", "sso/alice", "operators", "@day", "@alice", "staff", "/alice", "alice2", "@staff/operators"],
)
def test_a_rule_does_not_name_others(who):
    assert not opens(who)


def test_a_name_that_looks_like_another_is_not_taken_for_it():
    forger = Principal("staff/alice", authenticator="authenticator sso")
    assert not opens("staff/alice", forger)
    assert opens("sso/staff/alice", forger)
    member = Principal("@operators", authenticator="authenticator sso", groups=frozenset({""}))
    assert not opens("@operators", member)
    assert opens("sso/@operators", member)
    assert not opens("alice", Principal("bob", groups=frozenset({"alice"})))


def fits(what, **properties):
    return Right.OPEN in AccessRules([rule(what=what)]).rights(ALICE, Box(**properties))


@pytest.mark.parametrize(
    ("what", "folder", "expected"),
    [
        ("folder:/Prod/*", "/Prod", True),
        ("folder:/Prod/*", "/Prod/Web/A", True),
        ("folder:/prod/*", "/PROD/Web", True),
        ("folder:/Prod/*", "/Production/Web", False),
        ("folder:/Prod/*", "/", False),
        ("folder:/Prod/*", "/Test/Prod/Web", False),
        ("folder:/Prod", "/Prod", True),
        ("folder:/Prod", "/Prod/Web", False),
        ("folder:/", "/", True),
        ("folder:/", "/Prod", False),
        ("folder:/*", "/", True),
        ("folder:/*", "/Prod/Web", True),
        ("folder:/*/Web", "/Prod/Web", True),
        ("folder:/*/Web", "/Prod/A/Web", False),
        ("folder:/Pr*d/W*", "/Prod/Web", True),
        ("folder:/Pr*d/W*", "/Prod/A", False),
    ],
)
def test_a_folder_fits(what, folder, expected):
    assert fits(what, folder=folder) is expected


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("name:web-*", True),
        ("name:WEB-01", True),
        ("name:web", False),
        ("name:*-01", True),
        ("name:w*b*1", True),
        ("name:web-01*web-01", False),
        ("name:web-0?", False),
        ("name:web-[0-9]1", False),
        ("tag:console", True),
        ("tag:con*", True),
        ("tag:prod", False),
        ("host:esx1*", True),
        ("host:ESX12.example.com", True),
        ("host:esx12", False),
        ("vsphere:dc1", True),
        ("vsphere:DC1", False),
        ("vsphere:dc2", False),
        ("name:db-*, tag:windows, vsphere:dc1", True),
        ("name:db-*, tag:windows", False),
    ],
)
def test_a_machine_fits(what, expected):
    assert fits(what) is expected


def test_a_machine_without_a_host_fits_no_pattern_of_hosts():
    assert not fits("host:*", host="")


def test_rights_add_up_and_without_a_rule_there_is_none():
    rules = AccessRules(
        [
            rule(),
            rule("@operators", "folder:/Prod/*", "power, disconnect"),
            rule("bob", "name:*", "open, power, disconnect"),
        ]
    )
    assert rules.rights(ALICE, Box()) == frozenset(Right)
    assert rules.rights(ALICE, Box(folder="/Test")) == {Right.OPEN}
    assert rules.rights(Principal("carol"), Box()) == frozenset()
    assert [each.name for each in rules.of(ALICE).rules] == ["r", "r"]


def test_matching_is_linear_in_the_name_with_every_asterisk_that_a_pattern_may_have():
    pattern = "name:" + "*".join("a" * 8)

    def seconds(length):
        begin = perf_counter()
        assert not fits(pattern + "b", name="a" * length + "c")
        return perf_counter() - begin

    assert min(seconds(200_000) for _ in range(3)) < 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web-*", "is no pattern of machines: write folder:/Prod/\\*, name:web-\\*, tag:console"),
        ("uuid:1", "is no pattern of machines"),
        ("name:", "1 to 256 printable characters behind the colon"),
        ("name:a\u202eb", "1 to 256 printable characters"),
        ("name:" + "x" * 257, "1 to 256 printable characters"),
        ("name:" + "*a" * 9, "more than 8 asterisks"),
        ("folder:Prod", "is no folder: write /Prod for that folder alone, or /Prod/\\* with all below it"),
        ("folder:/Prod/", "is no folder"),
        ("folder:/Prod//Web", "is no folder"),
        ("vsphere:dc*", "is no name"),
        ("name:a, ", "is no pattern of machines"),
    ],
)
def test_a_wrong_pattern_is_refused(text, message):
    with pytest.raises(BadValue, match=message):
        section.what(text)


def test_the_configuration_has_the_rules(folder):
    text = (
        f"{L}[access users]\nwho = @console-users, staff/alice\n"
        "what = folder:/Prod/*, tag:a\nmay = open, power\n"
    )
    found = read(text, ANONYMOUS).access["users"]
    assert (found.name, found.who, found.may) == (
        "users",
        {"@console-users", "staff/alice"},
        {Right.OPEN, Right.POWER},
    )
    assert [(each.kind.value, each.text) for each in found.what] == [("folder", "/Prod/*"), ("tag", "a")]


def test_the_check_refuses_what_a_rule_cannot_mean(folder):
    text = (
        f"{L}[access a]\nwho =\nwhat = vsphere:dc9, name:x\nmay = view\n"
        "[access b]\nwho = alice\nwhat =\nmay = open, own\noften = yes\n"
        "[access c]\n[access]\n[acces d]\n"
    )
    found = "\n".join(problems(text, ANONYMOUS))
    assert "[access a] who: has no value" in found
    assert "[access a] what: no [vsphere dc9]: there is none" in found
    assert "[access a] may: view cannot be enforced: the proxy passes on all that a client sends" in found
    assert "[access b] what: has no value" in found
    assert "[access b] may: 'own' is not open, power, disconnect" in found
    assert "[access b] often: unknown key in [access NAME]" in found
    assert all(f"[access c] {key}: missing" in found for key in ("who", "what", "may"))
    assert "[access]: has no name: write [access NAME]" in found
    assert "[acces d]: unknown section: did you mean [access d]?" in found
