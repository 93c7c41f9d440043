"""The fields of forwarded requests and responses."""

import re
from dataclasses import replace
from ipaddress import ip_network

import pytest

from esxiproxy.core.errors import UpstreamInvalid, UpstreamLost, UpstreamRefused, UpstreamTimeout
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.http.policy import Http, ListenerPolicy
from esxiproxy.core.http.via import RECEIVED_BY
from esxiproxy.core.routing import Upstream
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import opening

TRUSTING = ListenerPolicy(http=Http.FORWARD, trust=TrustedProxies((ip_network("198.51.100.0/24"),)))


def sent(*fields, policy=None, upstream=None, **kwargs):
    scene = HttpScene(policy=policy) if upstream is None else HttpScene(upstream, policy)
    return read(scene.ask(get(b"/", *fields, **kwargs)))


def answered(*fields, **kwargs):
    scene = HttpScene(**kwargs)
    scene.ask(get())
    return read(scene.answer(OK[:-6] + b"\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\nok"))


def test_hop_by_hop_fields_stay_here():
    found = sent(
        b"Connection: keep-alive, X-Private, close",
        b"X-Private: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic eDp5",
        b"Upgrade: h2c, foo/2",
        b"TE: gzip",
        b"HTTP2-Settings: AAMAAABkAAQAAP",
        b"X-Public: 1",
    )
    assert [name for name, _ in found.fields] == [
        *(b"Host", b"X-Public", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Via"),
        b"X-Request-ID",
    ]


def test_end_to_end_fields_pass_as_they_are():
    fields = [
        b"Cookie: a=1",
        b"cOOkie: b=2",
        b"X-Name: Andr\xe9",
        b"X-Empty: ",
        b"Accept: a, b",
        b"Origin: null",
    ]
    found = sent(*fields)
    assert [b"%b: %b" % each for each in found.fields[1:6]] == fields[:5]
    assert found.values(b"Origin") == [b"null"]


def test_hop_by_hop_fields_of_an_answer_stay_here():
    found = answered(
        b"Connection: X-Private",
        b"X-Private: 1",
        b"Keep-Alive: timeout=5",
        b"Upgrade: h2c",
        b"Proxy-Authenticate: Basic",
        b"Set-Cookie: a=b",
        b"Set-Cookie: c=d",
    )
    assert [name for name, _ in found.fields] == [
        *(b"Content-Length", b"Set-Cookie", b"Set-Cookie", b"Via", b"X-Request-ID", b"Date")
    ]
    assert found.values(b"Set-Cookie") == [b"a=b", b"c=d"]


def test_the_upstreams_own_names_are_rewritten():
    found = answered(
        b"Location: http://192.0.2.10/ui/", b"Set-Cookie: a=b; Domain=192.0.2.10; Secure; Path=/"
    )
    assert found.values(b"Location") == [b"http://proxy.example:81/ui/"]
    assert found.values(b"Set-Cookie") == [b"a=b; Path=/"]


def test_forwarded_fields_are_written_and_those_of_untrusted_clients_dropped():
    found = sent(
        b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"Forwarded: for=x", b"X-Real-IP: 1"
    )
    assert found.values(b"X-Forwarded-For") == [b"198.51.100.7"]
    assert found.values(b"X-Forwarded-Proto") == [b"http"]
    assert found.values(b"X-Forwarded-Host") == [b"proxy.example:81"]
    assert not found.values(b"Forwarded") and not found.values(b"X-Real-IP")


def test_a_trusted_proxy_is_believed():
    scene = HttpScene(policy=TRUSTING)
    fields = (
        b"X-Forwarded-For: 9.9.9.9, 1.2.3.4",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: console.example",
    )
    found = read(scene.ask(get(b"/", *fields)))
    assert found.values(b"X-Forwarded-For") == [b"1.2.3.4, 198.51.100.7"]
    assert found.values(b"X-Forwarded-Proto") == [b"https"]
    assert found.values(b"X-Forwarded-Host") == [b"console.example"]
    location = b"\r\nLocation: http://192.0.2.10/\r\nSet-Cookie: a=b; Secure\r\n\r\n"
    found = read(scene.answer(OK.replace(b"\r\n\r\n", location)))
    assert found.values(b"Location") == [b"https://console.example/"]
    assert found.values(b"Set-Cookie") == [b"a=b; Secure"]
    assert scene.record.client.host == "1.2.3.4"


def test_a_console_behind_a_trusted_proxy_has_its_real_client():
    scene = HttpScene(policy=TRUSTING)
    scene.ask(opening(b"/", b"X-Forwarded-For: 1.2.3.4"))
    assert b"X-Forwarded-For: 1.2.3.4, 198.51.100.7\r\n" in scene.host.received
    scene.client.close()
    scene.pump()
    assert scene.record.client.host == "1.2.3.4"


def test_via_names_the_proxy_and_the_received_version():
    assert sent(b"Via: 1.0 fred").values(b"Via") == [b"1.0 fred", b"1.1 " + RECEIVED_BY]
    assert sent(version=b"1.0").values(b"Via") == [b"1.0 " + RECEIVED_BY]
    scene = HttpScene()
    scene.ask(get())
    scene.answer(b"HTTP/1.0 200 OK\r\nVia: 1.1 x\r\nContent-Length: 0\r\n\r\n")
    assert read(scene.client.received).values(b"Via") == [b"1.1 x", b"1.0 " + RECEIVED_BY]


@pytest.mark.parametrize("via", [b"1.1 " + RECEIVED_BY, b"1.0 fred, HTTP/1.1 %b (x), 1.1 p" % RECEIVED_BY])
@pytest.mark.parametrize("make", [get, opening])
def test_a_looping_request_is_refused(via, make):
    scene = HttpScene()
    scene.ask(make(b"/", b"Via: " + via))
    found = read(scene.client.received)
    assert found.status == 502 and scene.connector.dials == 0
    assert found.values(b"Proxy-Status") == [b"esxiproxy; error=proxy_loop_detected"]
    assert scene.record.error == "LoopDetected"


def test_another_proxy_of_ours_is_no_loop():
    assert sent(b"Via: 1.1 esxiproxy-00000000").line == b"GET / HTTP/1.1"


ORIGINS = [
    ("upstream", b"http://proxy.example:81", [b"http://192.0.2.10"]),
    ("upstream", b"https://evil.example", [b"https://evil.example"]),
    ("client", b"http://proxy.example:81", [b"http://proxy.example:81"]),
    ("none", b"https://evil.example", []),
    ("https://vc.example", b"http://proxy.example:81", [b"https://vc.example"]),
    ("https://vc.example", b"https://evil.example", [b"https://evil.example"]),
]


@pytest.mark.parametrize(("rule", "origin", "seen"), ORIGINS)
def test_only_our_own_origin_becomes_the_upstreams(rule, origin, seen):
    upstream = Upstream("u", "192.0.2.10", 80, False, origin_field=rule)
    assert sent(b"Origin: " + origin, upstream=upstream).values(b"Origin") == seen


@pytest.mark.parametrize(
    ("rule", "seen"),
    [("upstream", b"192.0.2.10"), ("client", b"proxy.example:81"), ("vc.example", b"vc.example")],
)
def test_host_follows_the_upstreams_rule(rule, seen):
    assert sent(upstream=Upstream("u", "192.0.2.10", 80, False, host_field=rule)).values(b"Host") == [seen]


def test_te_is_forwarded_for_trailers_only():
    assert sent(b"TE: gzip, trailers", b"Connection: TE").values(b"TE") == [b"trailers"]
    assert not sent(b"TE: gzip", b"Connection: TE").values(b"TE")


def test_expect_is_ignored_in_http_1_0():
    assert not sent(b"Expect: 100-continue", b"Content-Length: 0", version=b"1.0").values(b"Expect")


def test_a_204_has_no_length():
    scene = HttpScene()
    scene.ask(get())
    assert not read(scene.answer(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")).values(
        b"Content-Length"
    )


def test_the_session_is_named_to_both_sides_and_only_by_us():
    scene = HttpScene()
    seen = read(scene.ask(get(b"/", b"X-Request-ID: mine", b"x-request-id: again"))).values(b"X-Request-ID")
    answer = OK.replace(b"\r\n\r\n", b"\r\nX-Request-ID: theirs\r\n\r\n")
    assert read(scene.answer(answer)).values(b"X-Request-ID") == seen == [scene.record.session.encode()]


def test_a_console_is_named_to_both_sides():
    scene = HttpScene()
    scene.ask(opening(b"/", b"X-Request-ID: mine"))
    (seen,) = [value for name, value in scene.request()[1] if name == b"X-Request-ID"]
    scene.accept(b"binary", b"X-Request-ID: theirs")
    scene.pump()
    (holder,) = scene.sessions
    assert read(scene.client.received, bodiless=True).values(b"X-Request-ID") == [seen]
    assert seen == holder.session.id.encode()


@pytest.mark.parametrize("octets", [get(), opening(), b"rubbish\r\n\r\n"])
def test_a_refusal_names_the_session(octets):
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("no")
    scene.ask(octets)
    scene.client.close()
    scene.pump()
    found = read(scene.client.received)
    assert found.status in (400, 502)
    assert found.values(b"X-Request-ID") == [scene.record.session.encode()]


def test_a_refusal_of_the_upstreams_names_the_session():
    scene = HttpScene()
    scene.ask(opening())
    scene.answer(b"HTTP/1.1 403 No\r\nX-Request-ID: theirs\r\nContent-Length: 0\r\n\r\n")
    scene.client.close()
    scene.pump()
    assert read(scene.client.received).values(b"X-Request-ID") == [scene.record.session.encode()]


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("value", [TRACE, b"00-nonsense"])
def test_a_trace_is_passed_on_with_requests_and_openings(value):
    fields = (b"TraceParent: " + value, b"tracestate: congo=t61rcWkgMzE")
    scene = HttpScene()
    found = read(scene.ask(get(b"/", *fields)))
    assert (found.values(b"traceparent"), found.values(b"tracestate")) == ([value], [b"congo=t61rcWkgMzE"])
    scene.answer(OK)
    known = "4bf92f3577b34da6a3ce929d0e0e4736" if value == TRACE else ""
    assert scene.record.trace_id == known
    scene = HttpScene()
    scene.ask(opening(b"/", *fields))
    forwarded = scene.request()[1]
    assert (b"TraceParent", value) in forwarded and (b"tracestate", b"congo=t61rcWkgMzE") in forwarded
    scene.accept()
    scene.pump()
    scene.client.close()
    scene.pump()
    scene.advance(10)
    assert scene.record.trace_id == known


def test_no_trace_is_begun():
    found = sent()
    assert found.values(b"traceparent") == []


DATE = re.compile(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT")


def test_a_forwarded_answer_without_a_date_gets_one():
    (date,) = answered().values(b"Date")
    assert DATE.fullmatch(date)


def test_the_upstreams_own_date_stays():
    assert answered(b"date: Tue, 15 Nov 1994 08:12:31 GMT").values(b"Date") == [
        b"Tue, 15 Nov 1994 08:12:31 GMT"
    ]


def test_an_interim_answer_needs_no_date():
    scene = HttpScene()
    scene.ask(get())
    assert not read(scene.answer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")).values(b"Date")


@pytest.mark.parametrize("octets", [get(), opening(), b"rubbish\r\n\r\n", get(method=b"TRACE")])
def test_an_answer_of_ours_has_a_date(octets):
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("no")
    scene.ask(octets)
    (date,) = read(scene.client.received).values(b"Date")
    assert DATE.fullmatch(date)


def test_an_answer_to_a_health_check_has_a_date():
    scene = HttpScene(policy=ListenerPolicy(health=b"/readyz"))
    scene.ask(get(b"/readyz"))
    (date,) = read(scene.client.received).values(b"Date")
    assert DATE.fullmatch(date)


@pytest.mark.parametrize("date", [b"", b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"])
@pytest.mark.parametrize("status", [204, 304])
def test_a_refusal_without_a_body_has_no_length(status, date):
    """RFC 9110 8.6: with it, a 304 would mean that the page is empty."""
    scene = HttpScene()
    scene.ask(opening())
    scene.answer(b"HTTP/1.1 %d No\r\n%b\r\n" % (status, date))
    scene.host.close()
    scene.pump()
    found = read(scene.client.received)
    assert found.status == status and not found.values(b"Content-Length") and not found.rest
    assert len(found.values(b"Date")) == 1 and (not date or date[6:-2] in found.values(b"Date"))


@pytest.mark.parametrize("value", [b"0", b"00"])
@pytest.mark.parametrize("target", [b"*", b"/ui/"])
def test_an_options_with_no_forwards_left_is_answered_here(target, value):
    scene = HttpScene()
    scene.ask(get(target, b"Max-Forwards: " + value, method=b"OPTIONS") + get())
    found = read(scene.client.received)
    assert (found.status, found.values(b"Content-Length"), found.rest) == (200, [b"0"], b"")
    assert found.values(b"Allow") == [b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]
    assert scene.connector.dials == 0 and scene.client.saw_fin
    assert (scene.record.status, scene.record.error, scene.record.method) == (200, "", "OPTIONS")
    assert found.values(b"X-Request-ID") == [scene.record.session.encode()]
    scene.client.close()
    scene.pump()
    assert scene.at_rest()


@pytest.mark.parametrize(("value", "forwarded"), [(b"1", b"0"), (b"10", b"9"), (b"007", b"6")])
def test_max_forwards_of_an_options_is_decremented(value, forwarded):
    found = sent(b"Max-Forwards: " + value, method=b"OPTIONS")
    assert found.values(b"Max-Forwards") == [forwarded]


@pytest.mark.parametrize("fields", [[b"x"], [b"-1"], [b"1, 2"], [b""], [b"1", b"1"], [b"9" * 10]])
def test_a_max_forwards_that_is_no_number_is_refused(fields):
    scene = HttpScene()
    scene.ask(get(b"*", *[b"Max-Forwards: " + value for value in fields], method=b"OPTIONS"))
    assert read(scene.client.received).status == 400 and scene.connector.dials == 0


def test_max_forwards_is_ignored_for_other_methods():
    assert sent(b"Max-Forwards: 0").values(b"Max-Forwards") == [b"0"]


def test_a_trace_is_never_forwarded():
    scene = HttpScene()
    scene.ask(get(b"/", b"Max-Forwards: 0", method=b"TRACE"))
    assert read(scene.client.received).status == 405 and scene.connector.dials == 0


@pytest.mark.parametrize("asked", [get(), get(version=b"1.0"), opening()])
@pytest.mark.parametrize("upgrades", [[b"TLS/1.3", b"websocket"], []])
def test_a_426_names_the_protocol_to_upgrade_to(asked, upgrades):
    scene = HttpScene()
    scene.ask(asked)
    fields = b"".join(b"Upgrade: " + value + b"\r\n" for value in upgrades)
    connection = b"Connection: Upgrade\r\n" if upgrades else b""
    scene.answer(b"HTTP/1.1 426 No\r\n" + fields + connection + b"Content-Length: 0\r\n\r\n")
    found = read(scene.client.received)
    assert found.status == 426 and found.values(b"Upgrade") == upgrades
    named = b", ".join(found.values(b"Connection")).lower().split(b", ")
    assert (b"upgrade" in named) == bool(upgrades)
    assert (b"close" in named) == (asked != get())


@pytest.mark.parametrize("failure", [UpstreamTimeout, UpstreamInvalid, UpstreamLost, UpstreamRefused])
def test_a_failed_page_does_not_mention_websockets(failure):
    scene = HttpScene()
    scene.connector.failure = failure("the detail")
    scene.ask(get())
    told = read(scene.client.received).body.lower()
    assert not any(
        word in told for word in (b"opening", b"101", b"6455", b"websocket", b"a close", b"detail")
    )


def test_the_answers_of_a_host_in_the_path_lead_back_to_it():
    """Location and the Path of a cookie get the prefix of the route."""
    scene = HttpScene()
    router = scene.factory.gateway._routers[0].instance
    answer = router.route

    async def route(request, principal):
        found = await answer(request, principal)
        return replace(found, target=b"/ui/", prefix=b"/h/esx01")

    router.route = route
    scene.client.send(get(b"/h/esx01/ui/"))
    scene.pump()
    assert scene.host.received.startswith(b"GET /ui/ HTTP/1.1\r\n")
    scene.host.send(
        b"HTTP/1.1 302 Found\r\nLocation: /ui/login\r\nSet-Cookie: sid=1; Path=/\r\nContent-Length: 0\r\n\r\n"
    )
    scene.pump()
    head = scene.client.received
    assert b"Location: /h/esx01/ui/login\r\n" in head and b"Set-Cookie: sid=1; Path=/h/esx01/\r\n" in head
