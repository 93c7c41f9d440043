"""The certificate of a host: which one is trusted, and that a host with a wrong one learns nothing.

Other failures of a host are rows of the fault table.
"""

from __future__ import annotations

import ssl
import warnings
from datetime import timedelta

import pytest

from tests.support import config
from tests.support.certificates import Authority, Certificate, self_signed
from tests.support.programs import Proxy, until
from tests.support.scripts import echo
from tests.support.websocket import BINARY
from tests.support.websocket_peers import Client, Connection, ScriptedUpstream

SECRET = "5e1f-secret-ticket"
TARGET = f"/ticket/{SECRET}"


def text(url: str, keys: str) -> str:
    """Return a listener in front of this upstream."""
    return config.ini(
        config.listener(),
        config.upstream(url, more=keys),
        connect_timeout="2s",
        upstream_handshake_timeout="1s",
        close_timeout="1s",
    )


def ask(text: str) -> tuple[int, str, str]:
    """Return the status and Proxy-Status of a client, and the log after the record of its session."""
    with Proxy(text) as proxy:
        with Client(proxy.ports["one"]) as client:
            head = client.ask(TARGET, ["binary"])
            status, why = head.status, head.one("Proxy-Status") or ""
        log = until(lambda: proxy.log() if "ended by" in proxy.log() else None, "the session's record")
        assert "Unhandled" not in log and "Traceback" not in log and SECRET not in log
        return status, why, log


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> dict[str, Certificate]:
    """Create certificates that must not be trusted."""
    folder = tmp_path_factory.mktemp("wrong")
    return {
        "self-signed": self_signed(folder),
        "expired": authority.server("expired", not_after=timedelta(days=-1)),
        "not yet valid": authority.server("future", not_before=timedelta(days=1)),
        "other name": authority.server("other", names=["other.test"], addresses=["192.0.2.1"]),
    }


@pytest.mark.parametrize(
    ("which", "keys", "said"),
    [
        ("self-signed", "verify = system", "self-signed"),
        ("self-signed", "verify = ca\nca = {ca}", "self-signed"),
        ("self-signed", "verify = pin\npin = sha256:" + "00" * 32, "the configuration pins sha256:00:00"),
        ("self-signed", "verify = pin\npin = sha1:" + "00" * 20, "the configuration pins sha1:00:00"),
        ("expired", "verify = ca\nca = {ca}", "expired on"),
        ("not yet valid", "verify = ca\nca = {ca}", "not valid yet"),
        ("other name", "verify = ca\nca = {ca}", "is for other.test, 192.0.2.1, not for 127.0.0.1"),
        ("other name", "verify = system", "authority"),
    ],
)
def test_a_host_with_a_wrong_certificate_gets_no_byte_of_the_request(
    which: str, keys: str, said: str, wrong: dict[str, Certificate], authority: Authority
) -> None:
    """The target is the secret: TLS ends before anything is sent."""
    received: list[bytes] = []

    def listen_only(connection: Connection) -> None:
        try:
            received.append(connection.recv_exactly(1))
        except BaseException as end:
            received.append(b"")
            assert not getattr(end, "got", b"")

    with ScriptedUpstream(listen_only, tls=wrong[which].server_context()) as upstream:
        keys = keys.format(ca=authority.path)
        status, why, log = ask(text(f"wss://127.0.0.1:{upstream.port}", keys))
    assert (status, why) == (502, "esxiproxy; error=tls_certificate_error")
    assert "UpstreamUntrusted" in log and said in log
    assert not any(received)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("notation", [str, str.lower, lambda text: text.replace(":", "")])
def test_a_pinned_host_is_trusted_whatever_else_is_wrong_with_it(
    algorithm: str, notation: object, wrong: dict[str, Certificate]
) -> None:
    """An expired certificate for another name, by its thumbprint, in every notation of it."""
    certificate = wrong["expired"]
    pin = f"{algorithm}:{notation(getattr(certificate, algorithm))}"  # type: ignore[operator]
    with ScriptedUpstream(echo(), tls=certificate.server_context()) as upstream:
        content = text(f"wss://127.0.0.1:{upstream.port}", f"verify = pin\npin = {pin}")
        with Proxy(content) as proxy, Client(proxy.ports["one"]) as client:
            client.open(TARGET, ["binary"])
        assert upstream.connection().request.target == TARGET  # type: ignore[union-attr]


def test_an_authority_of_the_sites_own_is_trusted_for_name_and_address(authority: Authority) -> None:
    """The name and the address of the URL are looked for in the certificate."""
    certificate = authority.server("good")
    with ScriptedUpstream(echo(), tls=certificate.server_context()) as upstream:
        for host in ("localhost", "127.0.0.1"):
            url = f"wss://{host}:{upstream.port}"
            with (
                Proxy(text(url, f"verify = ca\nca = {authority.path}")) as proxy,
                Client(proxy.ports["one"]) as client,
            ):
                client.open(TARGET, ["binary"])


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE-RSA-AES256-SHA"])
def test_a_host_with_tls_1_0_carries_a_console_where_it_is_asked_for(
    authority: Authority, ciphers: str
) -> None:
    """With `tls_profile = old` messages of many records pass in both directions.

    Without it the host is a 502.
    """
    context = authority.server("aged", key="rsa").server_context()
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    with ScriptedUpstream(echo(), tls=context) as upstream:
        keys = f"verify = ca\nca = {authority.path}"
        url = f"wss://localhost:{upstream.port}"
        with (
            Proxy(text(url, f"{keys}\ntls_profile = old")) as proxy,
            Client(proxy.ports["one"]) as client,
        ):
            client.open(TARGET, ["binary"])
            for size in (1, 100_000):
                client.send_frame(BINARY, bytes(size))
                assert client.recv_frame().payload == bytes(size)
        status, _why, log = ask(text(url, keys))
        assert status == 502 and "write tls_profile = old" in log
