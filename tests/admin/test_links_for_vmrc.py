"""Links for VMware Remote Console that the admin API makes: the URL, the value in the state, and refusals."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from esxiproxy.admin.api.links import LinkOperations
from esxiproxy.admin.call import Actor, ApiError, Call
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.operations import Role
from esxiproxy.app.preflight import load
from esxiproxy.core.link import read_claims, unsealed_claims
from esxiproxy.core.sealing import key_of
from esxiproxy.routers.links import OPAQUE_SPACE
from esxiproxy.state.memory import Memory, MemoryState
from tests.admin.scene import check, in_thread
from tests.support import config
from tests.support.links import AUDIENCE, ISSUER, key_folder
from tests.support.outcome import result

BODY = {"router": "vmrc", "to": "192.0.2.10/ticket/SECRET-TICKET", "vmrc": True, "reason": "for a guest"}


@pytest.fixture
def make(tmp_path, authority):
    """Return a function that makes a link with this body, and the state and the certificate beside it."""
    key_folder(tmp_path)
    certificate = authority.server()
    keys = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "template": "esxi",
        "allow": "192.0.2.0/24",
        "keys": "keys",
    }
    text = config.ini(
        config.listener(
            upstream=None, tls=certificate, router="vmrc, plain", public_url="https://c.example.com"
        ),
        config.router("vmrc", "links", opaque=True, locate="path:/ticket/{link}", **keys),
        config.router("plain", "links", opaque=True, **keys),
        config.template("esxi"),
    )
    (tmp_path / "x.ini").write_text(text)
    clock = Clock()
    state = MemoryState(clock, Memory(time.time))
    control = SimpleNamespace(config=load(tmp_path / "x.ini"), state=state, in_thread=in_thread)
    operations = LinkOperations(control, Live(control, clock, "9.9"))

    def make(**changed):
        body = {key: value for key, value in {**BODY, **changed}.items() if value is not None}
        check("LinkRequest", body)
        made = result(operations.make_link(Call(Actor("alice", Role.OPERATOR, "test"), body=body)))
        check("MadeLink", made)
        return made

    make.state, make.certificate = state, certificate
    return make


def test_the_url_names_the_proxy_and_its_certificate(make):
    made = make(vmx="[ds] a b/ü.vmx")
    link = made["url"].removeprefix("https://c.example.com/ticket/")
    begin = f"vmrc://c.example.com:443/?mksticket={link}&thumbprint={make.certificate.sha1}"
    assert made["vmrc"] == f"{begin}&path=%5Bds%5D%20a%20b%2F%C3%BC.vmx"
    stored = result(make.state.get(OPAQUE_SPACE, key_of(link)))
    claims = unsealed_claims(stored, link, "router vmrc")
    found = read_claims(claims, ISSUER, AUDIENCE, time.time())
    assert (found.host, found.path, found.id) == ("192.0.2.10", b"/ticket/SECRET-TICKET", made["id"])
    assert make(vmrc=None)["vmrc"] is None


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"router": "plain"}, "locate = path:/ticket/{link}"),
        ({"vmrc": False, "vmx": "[ds] a.vmx"}, "only with vmrc"),
        ({"to": "198.51.100.1/ticket/SECRET-TICKET"}, "not in `allow`"),
    ],
)
def test_a_link_that_vmrc_cannot_open_is_refused(make, changed, text):
    with pytest.raises(ApiError, match=text.replace("{", r"\{")) as caught:
        make(**changed)
    assert caught.value.status == 409 and "SECRET" not in str(caught.value)
    assert result(make.state.items(OPAQUE_SPACE, "", 9)) == []
