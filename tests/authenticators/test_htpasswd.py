"""The authenticator `htpasswd`: credentials, refusals, changes of the file, and the end of a login."""

from dataclasses import replace

import pytest
from twisted.internet.defer import fail, succeed

from esxiproxy.authenticators.htpasswd import TYPE, Htpasswd
from esxiproxy.authenticators.loggable import loggable
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import AccessDenied, LimitReached, SessionError
from esxiproxy.core.http.basic import basic_credentials
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.command import Selector, SelectorKind
from esxiproxy.plugins.watched_files import OnRemoved
from tests.authenticators.world import (
    ALICE,
    USERS,
    basic,
    line,
    login,
    problems,
    refused,
    request,
    settings,
    started,
)
from tests.support.growth import grows
from tests.support.logs import process_log
from tests.support.outcome import result

FIELD = (b"WWW-Authenticate", b'Basic realm="consoles", charset="UTF-8"')


# Credentials


@pytest.mark.parametrize("scheme", [b"Basic", b"basic", b"BASIC", b"Basic "])
def test_a_password_names_the_principal(users, scheme):
    field = basic("alice", "secret", scheme)
    assert result(users.authenticate(request(field))) == ALICE
    assert users.ambient


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_credentials_are_utf_8_or_latin_1(users, encoding):
    field = basic("j\u00fcrgen", "p\u00e4ss:w\u00f6rd", encoding=encoding)
    assert result(users.authenticate(request(field))).name == "j\u00fcrgen"


@pytest.mark.parametrize(
    "fields", [(), ((b"Authorization", b"Bearer abc"),), ((b"Authorization", b"Basically x"),)]
)
def test_without_credentials_the_next_one_is_asked(users, fields):
    assert result(users.authenticate(request(*fields))) is None
    assert users.challenge(request()).fields == (FIELD,)


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "Secret"),
        ("alice", ""),
        ("Alice", "secret"),
        ("mallory", "secret"),
        ("alice", "p\u00e4ss:w\u00f6rd"),
        ("alice", "x" * 1400),
    ],
)
def test_a_wrong_password_is_refused(world, users, name, password):
    error = refused(users, name, password)
    assert (error.status_code, error.fields, str(error)) == (401, (FIELD,), "wrong user name or password")
    assert world.calls == 1  # as much work for a name that does not exist


MALFORMED = {
    b"Basic": "NAME:PASSWORD",
    b"Basic ": "NAME:PASSWORD",
    b"Basic !!!!": "not Base64",
    b"Basic c2VjcmV0": "NAME:PASSWORD",  # no colon
    b"Basic OnNlY3JldA==": "NAME:PASSWORD",  # no name
    b"Basic YWxpY2U6c2VjcmV0AA==": "control characters",
    b"Basic YWxpY2U6c2VjcmV0, Bearer x": "not Base64",
    b"Basic YWxpY2U6c2VjcmV": "not Base64",
    b"Basic \xff\xff": "not Base64",
    b"Basic " + b"A" * 2052: "more than 2048 characters",
}


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_credentials_are_refused_without_a_hash(world, users, value):
    with pytest.raises(AccessDenied, match=MALFORMED[value]) as caught:
        result(users.authenticate(request((b"Authorization", value))))
    assert (caught.value.status_code, caught.value.fields, world.calls) == (401, (FIELD,), 0)


def test_two_authorization_fields_are_refused(users):
    with pytest.raises(AccessDenied, match="several Authorization fields"):
        result(users.authenticate(request(basic("alice", "secret"), (b"authorization", b"Bearer x"))))


@pytest.mark.parametrize("unit", [b"A", b"=", b" ", b":", b"\xff", b"Og=="])
def test_credentials_are_read_in_linear_time(unit):
    def read(run):
        with pytest.raises(AccessDenied):
            basic_credentials(request((b"Authorization", b"Basic " + run)).head)

    assert not grows(read, lambda size: unit * (size // len(unit)) + b"!", 1000)


def test_a_login_form_checks_a_password(world, users):
    assert result(users.check_password("alice", "secret", "192.0.2.7/32")) == Principal("alice")
    assert result(users.check_password("alice", "wrong", None)) is None
    assert result(users.check_password("\udcff", "\udcff\0", "192.0.2.7/32")) is None
    assert world.memory.items["authenticator users failed logins"].keys() == {"unix", "192.0.2.7/32"}


# The log


def test_a_failed_login_is_logged_without_the_password(users):
    with process_log() as lines:
        refused(users, "al'ice\u202e", "hunter2")
        assert result(users.check_password("al\x1b[2J", "hunter2", None)) is None
        refused(users, "n" * 500, "hunter2", client="2001:db8::1")
    assert lines == [
        "[authenticator users] failed login of 'al\\'ice\\u202e' from 192.0.2.7/32",
        "[authenticator users] failed login of 'al\\x1b[2J' from unix",
        f"[authenticator users] failed login of '{'n' * 64}...' from 2001:db8::/64",
    ]


def test_a_name_with_a_secret_is_hidden():
    assert loggable("token=abcdef") == "token=***"
    assert loggable("{name} \u00fc") == "{name} \u00fc"


# Changes of the file


def test_a_removed_user_cannot_log_in_and_its_consoles_end(world, users, file):
    login(users)
    with process_log() as lines:
        world.change(file, line("j\u00fcrgen", "p\u00e4ss:w\u00f6rd"))
    assert lines == [f"[authenticator users] {file} is read again: 1 users, 1 removed"]
    assert refused(users, password="secret").status_code == 401
    assert world.ended == [(Selector(SelectorKind.PRINCIPAL, "users/alice"), "user removed")]


def test_consoles_of_a_removed_user_stay_by_default(world, file):
    users = Htpasswd(file, world.context, time_of_day=world.time_of_day)
    login(users)
    world.change(file, "")
    assert world.ended == [] and refused(users, password="secret").status_code == 401


def test_a_changed_password_holds_at_once(world, users, file):
    login(users)
    world.change(file, line("alice", "new"))
    assert refused(users, password="secret").status_code == 401
    assert login(users, password="new") == ALICE
    assert [selector.value for selector, _ in world.ended] == ["users/j\u00fcrgen"]


def test_a_user_that_is_removed_during_the_check_is_refused(world, users, file):
    world.hold = True
    outcome = started(users.authenticate(request(basic("alice", "secret"))))
    checking, world.held, world.hold = world.held, [], False
    world.change(file, line("bob", "x"))
    world.held = checking
    world.run()
    assert outcome[0].value.status_code == 401


@pytest.mark.parametrize("content", ["alice:p6BjYUP8o/2dw\n" + line("bob", "x"), "no colon"])
def test_a_version_with_mistakes_is_refused_as_a_whole(world, users, file, content):
    with process_log() as lines:
        world.change(file, content)
    assert lines[0].startswith(
        f"[authenticator users] {file} has mistakes and the version before stays in use"
    )
    assert "line 1: " in lines[0] and "p6BjYUP8o" not in lines[0]
    assert login(users) == ALICE and refused(users, "bob", "x").status_code == 401
    assert world.ended == []


def test_a_file_that_is_gone_changes_nothing(world, users, file):
    file.unlink()
    with process_log() as lines:
        world.watched[file]()
        world.clock.advance(1)
    assert "no such file" in lines[0] and login(users) == ALICE


def test_a_change_during_the_reading_is_read_too(world, users, file):
    world.hold = True
    world.change(file, line("bob", "x"))
    world.change(file, line("carol", "x"))
    assert len(world.held) == 1
    world.run()
    world.clock.advance(1)
    world.run()
    assert list(users._users) == ["carol"]


def test_a_change_is_not_lost_when_no_thread_is_free(world, file):
    answers = []
    context = replace(
        world.context,
        in_thread=lambda call, *more: answers.pop() if answers else succeed(call(*more)),
    )
    users = Htpasswd(file, context, time_of_day=world.time_of_day)
    result(users.ready())
    answers.append(fail(LimitReached("64 calls wait")))
    world.change(file, line("bob", "x"))
    assert "alice" in users._users
    world.clock.advance(1)
    assert list(users._users) == ["bob"]


def test_the_file_is_read_in_a_thread_before_the_first_use(world, file):
    users = Htpasswd(file, world.context, on_removed=OnRemoved.END, time_of_day=world.time_of_day)
    assert world.calls == 0 and not users.is_removed("alice"), "no user is removed before that"
    world.hold = True
    outcome, ready = started(users.authenticate(request(basic("alice", "secret")))), started(users.ready())
    world.change(file, line("bob", "x"))
    assert outcome == ready == [] and len(world.held) == 2, "a change waits for the first reading"
    world.hold = False
    file.write_text(USERS)
    world.run()
    assert (outcome, ready) == ([ALICE], [None])
    file.write_text(line("bob", "x"))
    world.clock.advance(1)
    assert users.is_removed("alice") and not users.is_removed("bob")


def test_a_file_with_mistakes_refuses_the_start(world, file):
    file.write_text("no colon")
    users = Htpasswd(file, world.context, time_of_day=world.time_of_day)
    with pytest.raises(BadValue, match="line 1: has no colon"):
        result(users.ready())


# Reauthentication


def test_a_login_is_good_while_the_entry_is_the_same(world, users, file):
    first = request(basic("alice", "secret"))
    remembered = users.remember(first, result(users.authenticate(first)))
    assert result(users.reauthenticate(remembered)) == Principal("alice")
    assert "$apr1$" not in repr(remembered)
    world.change(file, USERS + line("bob", "x"))
    assert result(users.reauthenticate(remembered)) == Principal("alice")
    world.change(file, line("alice", "new"))
    assert result(users.reauthenticate(remembered)) is None
    world.change(file, "")
    assert result(users.reauthenticate(remembered)) is None


def test_a_password_that_changes_before_the_console_opens_ends_the_login(world, users, file):
    first = request(basic("alice", "secret"))
    principal = result(users.authenticate(first))
    world.change(file, line("alice", "new"))
    assert result(users.reauthenticate(users.remember(first, principal))) is None


def test_sessions_that_never_open_are_forgotten(users):
    login(users)
    for number in range(5000):
        login(users, session=f"s{number}")
    assert len(users._opening) == 4096
    known = users.remember(request(session="s0"), ALICE)
    assert result(users.reauthenticate(known)) == Principal("alice")
    assert result(users.reauthenticate(users.remember(request(session="x"), Principal("nobody")))) is None


# The section


def test_a_section_creates_the_authenticator(world, file, tmp_path):
    values = settings(TYPE, tmp_path, file="users", realm="Consoles of the lab", on_removed="end")
    users = TYPE.create(values, world.context)
    assert dict(users.challenge(request()).fields)[b"WWW-Authenticate"] == (
        b'Basic realm="Consoles of the lab", charset="UTF-8"'
    )
    assert list(world.watched) == [file]


def test_the_defaults_of_a_section(file, tmp_path):
    values = settings(TYPE, tmp_path, file="users")
    found = [values[key] for key in ("realm", "on_removed", "reauthenticate", "reauthenticate_grace")]
    assert found == ["consoles", OnRemoved.KEEP, None, 900.0]
    assert problems(TYPE, tmp_path, file="users") == []


def test_mistakes_of_the_file_are_mistakes_of_the_section(file, tmp_path):
    file.write_text("alice:p6BjYUP8o/2dw\nbob\n")
    first, second = problems(TYPE, tmp_path, file="users")
    assert first[0] == "file" and first[1].startswith("line 1: the hash is DES crypt")
    assert second == ("file", "line 2: has no colon: write NAME:HASH")
    ((key, text),) = problems(TYPE, tmp_path, file="none")
    assert key == "file" and text.startswith("no such file")


@pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "\u00fc", "a\nb", "x" * 65])
def test_a_realm_that_needs_escapes_is_refused(file, tmp_path, realm):
    with pytest.raises(BadValue, match="is no realm"):
        settings(TYPE, tmp_path, file="users", realm=realm)


def test_refusals_are_errors_of_a_session(users):
    assert isinstance(refused(users), SessionError)
