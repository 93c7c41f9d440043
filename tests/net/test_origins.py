"""The check of the Origin field at a listener, and its default."""

import pytest
from twisted.internet.testing import MemoryReactorClock

from esxiproxy.authenticators.anonymous import Anonymous
from esxiproxy.core.config.model import ListenerTLS
from esxiproxy.core.http.origins import AllowedOrigins, AnyOrigin
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.session.record import Kind
from esxiproxy.proxy import Proxy
from esxiproxy.routers.static import StaticRouter
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import UPSTREAM, opening
from tests.support.certificates import self_signed

SAME = ListenerPolicy(http=Http.FORWARD, origins=AllowedOrigins())


def test_a_console_of_a_foreign_page_is_refused_before_an_upstream_is_dialled():
    scene = HttpScene(policy=SAME)
    scene.ask(opening(b"/ticket/secret", b"Origin: https://evil.example"))
    answer = read(scene.client.received)
    assert answer.status == 403 and b"allowed origin" in answer.body
    assert (scene.record.error, scene.record.kind) == ("OriginRefused", Kind.CONSOLE)
    assert scene.host is None and b"secret" not in scene.client.received


@pytest.mark.parametrize("fields", [(), (b"Origin: http://proxy.example:81",)])
def test_a_console_of_the_own_page_or_of_a_program_opens(fields):
    scene = HttpScene(policy=SAME)
    scene.ask(opening(b"/ticket/abc", *fields))
    scene.accept()
    scene.pump()
    assert b"HTTP/1.1 101 " in scene.client.received


def test_plain_http_is_not_checked():
    scene = HttpScene(policy=SAME)
    scene.ask(get(b"/ui/x", b"Origin: https://evil.example"))
    assert read(scene.answer(OK)).body == b"ok"


class AmbientRouter(StaticRouter):
    ambient = True


class AmbientAuthenticator(Anonymous):
    ambient = True


def origins_of(router=None, authenticator=None, tls=None, policy=None):
    """Return the rule of a listener that is built with these parts."""
    proxy = Proxy(MemoryReactorClock())
    router = router or StaticRouter(UPSTREAM)
    factory = proxy.listener("l", router, authenticator, tls=tls, policy=policy)
    while not hasattr(factory, "policy"):
        factory = factory.wrappedFactory
    return factory.policy.origins


def test_the_default_is_the_own_origin_where_a_browser_sends_credentials_by_itself(tmp_path):
    own = self_signed(tmp_path, "proxy.example")
    by_certificate = ListenerTLS(own.path, own.key_path, client_ca=own.path)
    assert origins_of() is None
    assert origins_of(router=AmbientRouter(UPSTREAM)) == AllowedOrigins()
    assert origins_of(authenticator=AmbientAuthenticator()) == AllowedOrigins()
    assert origins_of(tls=by_certificate) == AllowedOrigins()


def test_the_key_overrides_the_default():
    policy = ListenerPolicy(origins=AnyOrigin())
    assert origins_of(authenticator=AmbientAuthenticator(), policy=policy) == AnyOrigin()
