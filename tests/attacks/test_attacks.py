"""Every attempt of the table is refused under its name: nothing is dialled, spent, left behind or shown."""

from collections import Counter

import pytest

from esxiproxy.core.http.policy import Http
from esxiproxy.core.session.record import Kind
from tests.attacks.attempt import TICKET, Attempt
from tests.attacks.scene import LISTENERS, Scene, logged, request
from tests.attacks.table import TABLE

WAYS = {"console": (True, Http.REFUSE), "plain": (False, Http.REFUSE), "forwarded": (False, Http.FORWARD)}
"""An opening handshake, and plain requests to a listener that refuses and to one that forwards them."""
CONSOLES_ONLY = ("links", "tokens", "resolver")


def scene_of(attempt: Attempt, folder, http) -> Scene:
    parts = (attempt.keys, attempt.files, attempt.names, attempt.answers)
    return Scene(folder, attempt.listener, http, *parts)


def cases():
    for attempt in TABLE:
        for way in WAYS:
            if way == "console" or attempt.plain != "":
                yield pytest.param(attempt, way, id=f"{attempt.id} ({way})")


@pytest.mark.parametrize(("attempt", "way"), list(cases()))
def test_an_attempt_is_refused(tmp_path, attempt, way):
    upgrade, http = WAYS[way]
    with logged() as events:
        scene = scene_of(attempt, tmp_path, http)
        if attempt.before is not None:
            attempt.before(scene)
        del scene.dials.made[:], scene.recorder.records[:], scene.seen[:], scene.recorder.opened_sessions[:]
        marks = dict(scene.memory.marks)
        octets, secrets = request(attempt, scene, upgrade)
        answer = scene.send(octets)
        (record,) = scene.recorder.records
        assert scene.memory.marks == marks
        scene.finish()
    status = int(answer.split(b" ", 2)[1])
    expected = {(attempt.error, attempt.status)}
    if not upgrade:
        expected = {(attempt.plain or attempt.error, attempt.status if attempt.plain is None else None)}
        if http is Http.REFUSE or attempt.listener.startswith(CONSOLES_ONLY):
            expected.add(("UpgradeRequired", 426))
    assert (record.error, status) in expected or (record.error, None) in expected, record
    assert record.status == status
    assert scene.dials.made == []
    assert scene.recorder.opened_sessions == []
    assert scene.at_rest() == {}
    shown = {"answer": answer.decode("latin-1"), "events": "\n".join(events), **scene.output()}
    assert [
        host for host in (*scene.names.asked, "Link", "10.", "127.") if host in answer.decode("latin-1")
    ] == []
    for secret in (TICKET, *secrets):
        assert [place for place, text in shown.items() if secret in text] == []


def test_the_table_is_large_and_covers_every_listener():
    assert len(TABLE) >= 100
    assert [name for name, count in Counter(each.id for each in TABLE).items() if count > 1] == []
    assert {each.listener for each in TABLE} == set(LISTENERS) - {"inventory-alice"}


def test_plain_requests_are_of_their_kind(tmp_path):
    attempt = next(each for each in TABLE if each.listener == "links")
    scene = scene_of(attempt, tmp_path, Http.REFUSE)
    scene.send(request(attempt, scene, False)[0])
    assert scene.recorder.records[0].kind is Kind.HTTP
