"""The authenticator `htpasswd`: credentials, refusals, the slow-down, the cache, and changes of the file."""

from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from esxiproxy.authenticators.htpasswd import TYPE, Htpasswd
from esxiproxy.authenticators.keys import OnRemoved
from esxiproxy.authenticators.loggable import loggable
from esxiproxy.authenticators.password_checks import MAX_CACHED
from esxiproxy.core.apr1 import apr1
from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.errors import AccessDenied, LimitReached, SessionError, StateUnavailable
from esxiproxy.core.http.basic import basic_credentials
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.command import Selector, SelectorKind
from tests.authenticators.world import World, basic, problems, request, result, settings, started
from tests.support.growth import grows
from tests.support.logs import process_log

FIELD = (b"WWW-Authenticate", b'Basic realm="consoles", charset="UTF-8"')
ALICE = Principal("alice", consumed=frozenset({b"authorization"}))


def line(name, password):
    return f"{name}:$apr1$salt${apr1(password.encode(), b'salt')}\n"


USERS = line("alice", "secret") + line("j\u00fcrgen", "p\u00e4ss:w\u00f6rd")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users"
    path.write_text(USERS)
    return path


@pytest.fixture
def users(world, file):
    return Htpasswd(file, world.context, on_removed=OnRemoved.END, time_of_day=world.time_of_day)


def login(users, name="alice", password="secret", **more):
    return result(users.authenticate(request(basic(name, password), **more)))


def refused(users, name="alice", password="wrong", **more):
    with pytest.raises(AccessDenied) as caught:
        login(users, name, password, **more)
    return caught.value


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


# The slow-down


def test_a_network_with_failures_has_to_wait_and_no_password_is_hashed(world, users):
    with process_log() as lines:
        for number in range(5):
            assert refused(users, password=f"wrong{number}").status_code == 401
    assert lines[-1].endswith(", which now has to wait 2 s") and "wait" not in lines[-2]
    before = world.calls
    error = refused(users, password="secret")
    assert (error.status_code, error.fields) == (429, ((b"Retry-After", b"2"),))
    assert world.calls == before
    assert refused(users, client="192.0.2.8").status_code == 401  # another network
    world.clock.advance(2)
    assert login(users) == ALICE


def test_the_time_to_wait_grows_to_a_minute(world, users):
    waits = []
    for number in range(14):
        assert refused(users, password=f"wrong{number}").status_code == 401
        if (error := refused(users, password="x")).status_code == 429:
            waits.append(int(dict(error.fields)[b"Retry-After"]))
            world.clock.advance(waits[-1])
    assert waits[:7] == [2, 4, 8, 16, 32, 60, 60] and max(waits) == 60
    world.clock.advance(60)
    for number in range(4):
        assert refused(users, password=f"wrong{number}").status_code == 401
    assert login(users) == ALICE


def test_failures_of_more_than_a_minute_ago_do_not_count(world, users):
    for number in range(40):
        assert refused(users, password=f"wrong{number}").status_code == 401
        world.clock.advance(20)


def test_processes_count_together(world, file, users):
    other = Htpasswd(file, world.context, time_of_day=world.time_of_day)
    for number in range(5):
        assert refused((users, other)[number % 2], password=f"wrong{number}").status_code == 401
    assert [refused(each).status_code for each in (users, other)] == [429, 429]


def test_a_client_with_a_good_password_does_not_reset_the_count(users):
    for number in range(5):
        login(users, "j\u00fcrgen", "p\u00e4ss:w\u00f6rd")
        refused(users, password=f"wrong{number}")
    assert refused(users).status_code == 429
    assert login(users, "j\u00fcrgen", "p\u00e4ss:w\u00f6rd").name == "j\u00fcrgen"  # from the cache


@pytest.mark.parametrize("value", ["", "1", "a b c", "9 nan nan", "9 1 2 3", "9" * 5000 + " 1 2"])
def test_a_value_of_another_version_counts_as_none(world, users, value):
    world.state.put("authenticator users failed logins", "192.0.2.7/32", value, 1e12)
    assert refused(users).status_code == 401


def test_a_clock_that_was_set_back_costs_a_minute_at_most(world, users):
    for number in range(5):
        refused(users, password=f"wrong{number}")
    later, world.memory.time_of_day = world.memory.time_of_day, lambda: 0.0
    users._checks._throttle._time_of_day = world.memory.time_of_day
    assert dict(refused(users).fields)[b"Retry-After"] == b"60"
    world.memory.time_of_day = later


def test_without_the_state_no_password_is_hashed(world, users, monkeypatch):
    monkeypatch.setattr(world.state, "get", lambda *_: fail(StateUnavailable("no database")))
    with pytest.raises(StateUnavailable):
        login(users)
    assert world.calls == 0


def test_a_failure_is_logged_also_if_it_cannot_be_counted(world, users, monkeypatch):
    monkeypatch.setattr(world.state, "put", lambda *_: fail(StateUnavailable("no database")))
    with process_log() as lines, pytest.raises(StateUnavailable):
        login(users, password="wrong")
    assert lines == ["[authenticator users] failed login of 'alice' from 192.0.2.7/32"]


# Checks at the same time


def test_equal_credentials_are_checked_once(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", "secret")))) for _ in range(60)]
    assert len(world.held) == 1
    world.run()
    assert logins == [[ALICE]] * 60


def test_a_network_has_two_checks_at_a_time(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", f"wrong{number}")))) for number in range(20)]
    other = started(users.authenticate(request(basic("alice", "secret"), client="192.0.2.8")))
    assert len(world.held) == 3
    while world.held:
        assert len(world.held) <= 3
        world.run()
    assert other == [ALICE]
    codes = [outcome[0].value.status_code for outcome in logins]
    assert codes[:5] == [401] * 5 and codes.count(429) >= 14
    assert world.calls <= 7
    assert not users._checks._turns and not users._checks._checks


def test_the_checks_of_a_network_that_wait_are_bounded(world, users):
    world.hold = True
    logins = [started(users.authenticate(request(basic("alice", f"wrong{number}")))) for number in range(50)]
    assert [outcome[0].value.status_code for outcome in logins if outcome] == [429] * 16


def test_a_client_that_disconnects_does_not_avoid_the_count(world, users):
    world.hold = True
    for number in range(5):
        waiting = Deferred.fromCoroutine(users.authenticate(request(basic("alice", f"wrong{number}"))))
        outcome = []
        waiting.addBoth(outcome.append)
        waiting.cancel()
        assert isinstance(outcome[0], Failure) and outcome[0].check(CancelledError)
        world.run()
    world.hold = False
    assert world.calls == 5 and refused(users, password="secret").status_code == 429


def test_a_check_that_waits_ends_with_its_client(world, users):
    world.hold = True
    calls = [
        Deferred.fromCoroutine(users.authenticate(request(basic("alice", f"wrong{number}"))))
        for number in range(6)
    ]
    for call in calls:
        call.addErrback(lambda failure: failure.trap(CancelledError))
        call.cancel()
    world.run()
    assert (world.calls, world.held) == (2, [])
    assert not users._checks._turns and not users._checks._checks


def test_one_of_two_equal_clients_can_disconnect(world, users):
    world.hold = True
    first = Deferred.fromCoroutine(users.authenticate(request(basic("alice", "secret"))))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    second = started(users.authenticate(request(basic("alice", "secret"))))
    first.cancel()
    world.run()
    assert second == [ALICE]


def test_threads_that_are_busy_refuse_the_login(world, file):
    busy = replace(world.context, in_thread=lambda *_: fail(LimitReached("64 calls wait")))
    users = Htpasswd(file, busy, time_of_day=world.time_of_day)
    with pytest.raises(LimitReached):
        login(users)
    assert not world.memory.items  # no failure of the client


def test_an_error_of_a_library_is_logged_and_raised(world, file):
    broken = replace(world.context, in_thread=lambda *_: fail(MemoryError("no memory")))
    users = Htpasswd(file, broken, time_of_day=world.time_of_day)
    with process_log() as lines, pytest.raises(MemoryError):
        login(users)
    assert lines == ["[authenticator users] cannot check a password"]


# The cache


def test_a_good_answer_is_kept_for_a_minute(world, users):
    login(users)
    login(users, client="192.0.2.8")
    assert world.calls == 1
    world.clock.advance(60)
    login(users)
    assert world.calls == 2


def test_no_credentials_are_kept(users):
    login(users)
    refused(users, password="hunter2")
    kept = repr(vars(users._checks)) + repr(users._opening)
    assert "secret" not in kept and "hunter2" not in kept and "$apr1$" not in kept


def test_credentials_of_equal_texts_are_different(world, users, file):
    world.change(file, line("a", "bc") + line("ab", "x"))
    assert login(users, "a", "bc").name == "a"
    assert refused(users, "ab", "c").status_code == 401


def test_the_cache_is_bounded(world, users, file):
    world.change(file, "".join(f"u{number}:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" for number in range(1100)))
    for number in range(1100):
        login(users, f"u{number}", "secret")
    assert len(users._checks._good) == MAX_CACHED
    login(users, "u1099", "secret")
    assert world.calls == 1101  # with the reading of the file


# Changes of the file


def test_a_removed_user_cannot_log_in_and_its_consoles_end(world, users, file):
    login(users)
    with process_log() as lines:
        world.change(file, line("j\u00fcrgen", "p\u00e4ss:w\u00f6rd"))
    assert lines == [f"[authenticator users] {file} is read again: 1 users, 1 removed"]
    assert refused(users, password="secret").status_code == 401
    assert world.ended == [(Selector(SelectorKind.PRINCIPAL, "alice"), "user removed")]


def test_consoles_of_a_removed_user_stay_by_default(world, file):
    users = Htpasswd(file, world.context, time_of_day=world.time_of_day)
    world.change(file, "")
    assert world.ended == [] and refused(users, password="secret").status_code == 401


def test_a_changed_password_holds_at_once(world, users, file):
    login(users)
    world.change(file, line("alice", "new"))
    assert refused(users, password="secret").status_code == 401
    assert login(users, password="new") == ALICE
    assert [selector.value for selector, _ in world.ended] == ["j\u00fcrgen"]


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
    answers = [fail(LimitReached("64 calls wait"))]
    context = replace(
        world.context,
        in_thread=lambda call, *more: answers.pop() if answers else succeed(call(*more)),
    )
    users = Htpasswd(file, context, time_of_day=world.time_of_day)
    world.change(file, line("bob", "x"))
    assert "alice" in users._users
    world.clock.advance(1)
    assert list(users._users) == ["bob"]


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
