"""Cases of the parity test: opening handshakes and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.integration.parity_run import CASES, Run, case
from tests.support.programs import TICKET
from tests.support.scripts import answer, drops_before_answer, echo, endless_head, refuse, wrong_accept
from tests.support.websocket import (
    TEXT,
    Field,
)
from tests.support.websocket_peers import Connection


def refusals(name: str, status: str, fields: Sequence[Field] = ()) -> None:
    """Enter a case in which the upstream refuses with this status."""

    def play(run: Run) -> None:
        run.open(refuse(status, b"upstream: no\n" * 20, fields))
        run.observe_request()

    CASES[name] = play


OPENINGS: dict[str, dict[str, Any]] = {
    "first_subprotocol_chosen": {"subprotocols": ["binary", "vmware-vvc"]},
    "second_subprotocol_chosen": {"script": echo("vmware-vvc"), "subprotocols": ["binary", "vmware-vvc"]},
    "no_subprotocol_chosen": {"script": echo(""), "subprotocols": ["binary", "vmware-vvc"]},
    "no_subprotocol_offered": {"subprotocols": []},
    "subprotocols_in_two_fields": {
        "subprotocols": [],
        "fields": [("Sec-WebSocket-Protocol", "binary"), ("Sec-WebSocket-Protocol", "vmware-vvc")],
    },
    "deflate_offered": {
        "fields": [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
    },
    "origin": {"fields": [("Origin", "https://page.test")]},
    "cookies_and_repeated_fields": {
        "fields": [
            ("Cookie", "a=1; b=2"),
            ("X-One", "1"),
            ("X-Two", "é, \t;"),
            ("X-One", "2"),
            ("User-Agent", "me/1"),
            ("Authorization", "Basic eDp5"),
        ]
    },
    "set_cookie_twice": {
        "script": echo(
            fields=[
                ("Set-Cookie", "a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
                ("Set-Cookie", "b=2"),
                ("X-One", "1"),
                ("X-One", "2"),
            ]
        )
    },
}
"""The arguments of `Run.open` for sessions that are opened and closed."""


def opens(name: str, **arguments: Any) -> None:
    """Enter a case in which a session is opened and closed if the answer is a 101."""

    def play(run: Run) -> None:
        client = run.open(**arguments)
        if run.observed.get("status") == 101:
            run.observe_request()
            run.close(client)

    CASES[name] = play


for _name, _arguments in OPENINGS.items():
    opens(_name, **_arguments)


@case
def text_subprotocol_chosen(run: Run) -> None:
    client = run.open(subprotocols=["uint8utf8"])
    client.send_frame(TEXT, "grüße".encode())
    run.observe_echoes(client, 1)
    run.close(client)


@case
def unoffered_subprotocol_chosen(run: Run) -> None:
    run.open(echo("mks"), subprotocols=["binary"])


@case
def forwarded_fields_of_a_stranger(run: Run) -> None:
    names = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
    client = run.open(fields=[(name, "for=192.0.2.66") for name in names])
    request = run.peer().request
    assert request is not None
    run.observed["forwarded"] = [request.all(name) for name in names]
    run.close(client)


TARGETS = {
    "plain": f"/ticket/{TICKET}",
    "matrix": f"/ticket/{TICKET};x=1;y",
    "equals": f"/ticket/{TICKET}=?k=v==",
    "plus": f"/ticket/{TICKET}+b?c=d+e",
    "escaped": f"/ticket/{TICKET}%2fb%2F%41?x=%2f%3D",
    "double_slash": f"//ticket//{TICKET}//",
    "empty_value": f"/ticket/{TICKET}?x=&y&=z&&",
    "dots": f"/ticket/./{TICKET}/../b?x=../y",
    "marks": f"/ticket/~{TICKET}!$'()*,-._:@?/?:@!$'()*,",
    "odd_escape": f"/ticket/{TICKET}%?x=%zz",
    "long": f"/ticket/{TICKET}" + "a" * 2000,
    "query": f"/ui/console?vm=7&mksTicket={TICKET}&sessionTicket=cst-{TICKET}",
}


for _name, _target in TARGETS.items():
    opens(f"target_{_name}", target=_target)


@case
def early_hints_before_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_head("103 Early Hints", [("Link", "</a>; rel=preload")])
        connection.accept()
        connection.serve()
        connection.close()

    client = run.open(script)
    if run.observed.get("status") == 101:
        run.close(client)


refusals("refused_403", "403 Forbidden")
refusals("refused_404", "404 Not Found", [("X-One", "1")])
refusals("refused_302", "302 Found", [("Location", "https://login.test/?a=b")])
refusals("refused_401", "401 Unauthorized", [("WWW-Authenticate", 'Basic realm="esxi"')])
refusals(
    "refused_503",
    "503 Service Unavailable",
    [("Retry-After", "7"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b")],
)


@case
def answered_200(run: Run) -> None:
    run.open(refuse("200 OK", b"upstream: a page"))


@case
def wrong_accept_value(run: Run) -> None:
    run.open(wrong_accept)


@case
def answer_is_not_http(run: Run) -> None:
    run.open(answer(b"\x15\x03\x01 hello, this is telnet\r\n\r\n"))


@case
def answer_has_no_end(run: Run) -> None:
    run.open(endless_head)


@case
def nobody_listens(run: Run) -> None:
    client = run.client("dead")
    run.observe_answer(client, lambda: client.ask("/", ["binary"]))


@case
def upstream_drops_before_the_answer(run: Run) -> None:
    run.open(drops_before_answer)
