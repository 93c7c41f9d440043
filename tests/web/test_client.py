"""The HTTP client of the proxy: pooled connections, limits, verification, and errors without secrets."""

import shutil

import pytest
from twisted.internet.defer import CancelledError

from esxiproxy.core.errors import ServiceUnavailable
from esxiproxy.core.routing import Identity, Verify
from esxiproxy.core.thumbprint import Pin, pin_of
from esxiproxy.web import tls as client_tls
from tests.support.programs import dead_port
from tests.support.web_server import ServerConnections

SECRET = "s3cr3t"
SYSTEM = Identity()


def failure(web, url, **how):
    """Return the text of the error of a request, which has no part of the URL's path or query."""
    return failure_of(web, web.client.request("GET", url, **how))


def failure_of(web, asking):
    """Return the text of the error of a request that was sent."""
    with pytest.raises(ServiceUnavailable) as caught:
        web.result(asking)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def pinned(der, algorithm="sha256"):
    return Identity(Verify.PIN, (pin_of(der, algorithm),))


# --- requests and answers


def test_an_answer_has_status_fields_in_lower_case_and_body(web):
    answer = web.get(f"http://127.0.0.1:{web.serve()}/ok")
    assert (answer.status, answer.body) == (200, b"hello")
    assert [value for name, value in answer.fields if name == b"set-cookie"] == [b"a=1", b"b=2"]


def test_a_request_has_its_method_target_fields_and_body(web):
    url = f"http://127.0.0.1:{web.serve()}/ok/a%20b?x=1&y"
    fields = ((b"Cookie", b"a=1"), (b"Cookie", b"b=2"), (b"X-One", b"1"))
    web.result(web.client.request("POST", url, fields=fields, body=b"{}" * 5000))
    ((method, target, received, body),) = web.pages.seen
    assert (method, target, body) == (b"POST", b"/ok/a%20b?x=1&y", b"{}" * 5000)
    assert (received[b"Cookie"], received[b"X-One"]) == ([b"a=1", b"b=2"], [b"1"])


def test_a_redirect_is_not_followed(web):
    answer = web.get(f"http://127.0.0.1:{web.serve()}/redirect")
    assert (answer.status, dict(answer.fields)[b"location"]) == (302, b"/ok")
    assert len(web.pages.seen) == 1


def test_an_answer_without_a_length_ends_with_its_connection(web):
    port = web.raw(b"HTTP/1.0 200 OK\r\n\r\nall of it")
    assert web.get(f"http://127.0.0.1:{port}/").body == b"all of it"


def test_an_ipv6_address(web):
    try:
        port = web.serve(interface="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert web.get(f"http://[::1]:{port}/ok").status == 200


# --- connections


def test_requests_one_after_another_share_a_connection(web):
    port = web.serve()
    for _ in range(5):
        web.get(f"http://127.0.0.1:{port}/ok")
    assert web.site.connections == 1


def test_requests_at_the_same_time_have_connections_of_their_own(web):
    url = f"http://127.0.0.1:{web.serve()}/ok"
    for asking in [web.client.request("GET", url) for _ in range(4)]:
        assert web.result(asking).status == 200
    assert web.site.connections == 4


def test_a_connection_that_the_server_has_closed_is_replaced(web):
    port = web.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert [web.get(f"http://127.0.0.1:{port}/").body for _ in range(3)] == [b"hi"] * 3


def test_other_identities_use_other_connections(web, certificate):
    port = web.serve(tls=ServerConnections(certificate))
    identities = [pinned(certificate.der), Identity(Verify.NONE), pinned(certificate.der)]
    for identity in identities:
        web.get(f"https://127.0.0.1:{port}/ok", identity=identity)
    assert web.site.connections == 2


def test_the_pools_of_many_identities_are_bounded(web):
    port = web.serve()
    for number in range(70):
        identity = Identity(Verify.PIN, (Pin("sha256", f"{number:064x}"),))
        web.get(f"http://127.0.0.1:{port}/ok", identity=identity)
    assert len(web.client._agents) == 64


def test_closing_the_client_closes_its_connections(web):
    port = web.serve()
    web.get(f"http://127.0.0.1:{port}/ok")
    web.result(web.client.close())
    web.get(f"http://127.0.0.1:{port}/ok")
    assert web.site.connections == 2


@pytest.mark.parametrize("secure", [False, True])
def test_a_unix_socket(web, tmp_path, certificate, authority, secure):
    path, tls = tmp_path / "service", ServerConnections(certificate) if secure else None
    web.serve(unix=path, tls=tls)
    identity = Identity(Verify.CA, ca=authority.path)
    url = f"http{'s' if secure else ''}://localhost/ok"
    assert web.get(url, socket=path, identity=identity).status == 200
    assert web.pages.seen[0][2][b"Host"] == [b"localhost"]


# --- limits


@pytest.mark.parametrize("page", ["hang", "half"])
def test_a_server_that_does_not_answer_in_time(web, page):
    port = web.serve()
    asking = web.client.request("GET", f"http://127.0.0.1:{port}/{page}/{SECRET}", timeout=30.0)
    web.until(lambda: web.pages.unfinished)
    web.advance(29.0)
    web.turn()
    assert not asking.called
    web.advance(1.0)
    assert failure_of(web, asking) == f"http://127.0.0.1:{port} did not answer within 30 s"
    web.until(lambda: web.pages.unfinished[0]._disconnected)


@pytest.mark.parametrize("page", ["hang", "half"])
def test_a_cancelled_request_ends_its_connection(web, page):
    asking = web.client.request("GET", f"http://127.0.0.1:{web.serve()}/{page}")
    web.until(lambda: web.pages.unfinished)
    for _ in range(5):
        web.turn()
    asking.cancel()
    with pytest.raises(CancelledError):
        web.result(asking)
    web.until(lambda: web.pages.unfinished[0]._disconnected)


def test_a_body_that_is_too_large(web):
    port = web.serve()
    text = failure(web, f"http://127.0.0.1:{port}/big?{SECRET}", max_body=1000)
    assert text == f"http://127.0.0.1:{port} sent a body of more than 1000 bytes"
    assert len(web.get(f"http://127.0.0.1:{port}/big", max_body=100_000).body) == 100_000


def test_a_body_that_ends_too_early(web):
    port = web.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi")
    assert "cannot be asked" in failure(web, f"http://127.0.0.1:{port}/{SECRET}")


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
def test_a_server_that_does_not_speak_http(web, answer):
    port = web.raw(answer)
    assert f"http://127.0.0.1:{port} cannot be asked: " in failure(web, f"http://127.0.0.1:{port}/{SECRET}")


def test_a_host_that_refuses_connections(web):
    with dead_port() as port:
        text = failure(web, f"http://127.0.0.1:{port}/{SECRET}")
    assert text.startswith(f"http://127.0.0.1:{port} cannot be asked: Connection was refused")


def test_a_name_without_an_address(web):
    text = failure(web, f"http://no-such-host.invalid/{SECRET}")
    assert text.startswith("http://no-such-host.invalid cannot be asked: DNS lookup failed")


def test_a_unix_socket_that_does_not_exist(web, tmp_path):
    text = failure(web, f"http://localhost/{SECRET}", socket=tmp_path / "none")
    assert text.startswith(f"{tmp_path / 'none'} cannot be asked: ")


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1/a b/{SECRET}",
        f"http://127.0.0.1:1/\n{SECRET}",
        f"http://127.0.0.1:1/\u00fc{SECRET}",
        f"http://alice:{SECRET}@127.0.0.1:1/",
        f"ftp://127.0.0.1:1/{SECRET}",
        f"http://[::1/{SECRET}",
        f"/{SECRET}",
        f"http:///{SECRET}",
        "",
    ],
)
def test_a_url_that_cannot_be_asked(web, url):
    assert "cannot be asked" in failure(web, url)


# --- certificates


def test_a_certificate_of_an_authority(web, certificate, authority):
    tls = ServerConnections(certificate)
    port, identity = web.serve(tls=tls), Identity(Verify.CA, ca=authority.path)
    assert web.get(f"https://127.0.0.1:{port}/ok", identity=identity).status == 200
    assert web.get(f"https://localhost:{port}/ok", identity=identity).status == 200
    assert tls.names == [None, b"localhost"]


@pytest.mark.parametrize("how", ["sha256", "sha1", "certificate", "none", "both"])
def test_a_certificate_that_is_expected(web, own_certificate, how):
    der, wrong = own_certificate.der, pin_of(b"other", "sha1")
    identity = {
        "certificate": Identity(certificate=der),
        "none": Identity(Verify.NONE),
        "both": Identity(Verify.PIN, (wrong, pin_of(der, "sha256"))),
    }.get(how) or pinned(der, how)
    tls = ServerConnections(own_certificate)
    assert web.get(f"https://localhost:{web.serve(tls=tls)}/ok", identity=identity).status == 200
    assert tls.names == [b"localhost"]


@pytest.mark.parametrize("how", ["sha256", "sha1", "certificate", "no pins", "strongest"])
def test_a_certificate_that_is_not_expected(web, own_certificate, how):
    der, port = own_certificate.der, web.serve(tls=ServerConnections(own_certificate))
    identity = {
        "certificate": Identity(certificate=b"other"),
        "no pins": Identity(Verify.PIN),
        "strongest": Identity(Verify.PIN, (pin_of(der, "sha1"), pin_of(b"other", "sha256"))),
    }.get(how) or pinned(b"other", how)
    text = failure(web, f"https://127.0.0.1:{port}/ok/{SECRET}", identity=identity)
    shown = pin_of(der, "sha256")
    assert (
        text == f"https://127.0.0.1:{port} cannot be asked: its certificate is {shown}, not the expected one"
    )
    assert web.pages.seen == []


def test_a_certificate_of_an_unknown_authority(web, own_certificate, authority):
    port = web.serve(tls=ServerConnections(own_certificate))
    for identity in (SYSTEM, Identity(Verify.CA, ca=authority.path)):
        text = failure(web, f"https://127.0.0.1:{port}/ok/{SECRET}", identity=identity)
        assert text == f"https://127.0.0.1:{port} cannot be asked: certificate verify failed"
    assert web.pages.seen == []


@pytest.mark.parametrize("name", ["other.test", None])
def test_a_certificate_with_another_name(web, authority, name):
    port = web.serve(tls=ServerConnections(authority.server("elsewhere", ["elsewhere.test"], [])))
    identity = Identity(Verify.CA, ca=authority.path, server_name=name)
    text = failure(web, f"https://127.0.0.1:{port}/ok/{SECRET}", identity=identity)
    assert text == f"https://127.0.0.1:{port} cannot be asked: its certificate has another name"
    assert web.pages.seen == []
    expected = Identity(Verify.CA, ca=authority.path, server_name="elsewhere.test")
    assert web.get(f"https://127.0.0.1:{port}/ok", identity=expected).status == 200


def test_a_server_without_tls(web):
    port = web.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    text = failure(web, f"https://127.0.0.1:{port}/{SECRET}")
    assert text == f"https://127.0.0.1:{port} cannot be asked: wrong version number"


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_authorities_that_cannot_be_read(web, certificate, tmp_path, content):
    path, port = tmp_path / "ca.pem", web.serve(tls=ServerConnections(certificate))
    if content is not None:
        path.write_bytes(content)
    text = failure(web, f"https://127.0.0.1:{port}/ok", identity=Identity(Verify.CA, ca=path))
    assert "cannot be asked: " in text and str(path) in text


def test_authorities_are_read_once_and_again_when_their_file_changes(
    web, certificate, own_certificate, authority, tmp_path, monkeypatch
):
    reads, read = [], client_tls.read_certificates
    monkeypatch.setattr(client_tls, "read_certificates", lambda path: reads.append(path) or read(path))
    path, port = tmp_path / "ca.pem", web.serve(tls=ServerConnections(certificate))
    identity, url = Identity(Verify.CA, ca=path), f"https://127.0.0.1:{port}/ok"
    shutil.copy(own_certificate.path, path)
    failure(web, url, identity=identity)
    failure(web, url, identity=identity)
    assert len(reads) == 1
    path.unlink()
    shutil.copy(authority.path, path)
    asking = [web.client.request("GET", url, identity=identity) for _ in range(3)]
    assert [web.result(each).status for each in asking] == [200] * 3
    assert (len(reads), web.site.connections) == (2, 5)
