"""The cookie of a login on the portal: its lifetime, its idle time, and its end."""

from dataclasses import replace

import pytest

from esxiproxy.authenticators.login_store import (
    ACTIVITY,
    COOKIE,
    LOGINS,
    LOGINS_AT_ONCE,
    StoredLogin,
    end_logins_of,
    key_in,
)
from esxiproxy.authenticators.session import TYPE, SessionAuthenticator
from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.routing import Principal
from esxiproxy.core.sealing import key_of
from tests.authenticators.world import DAY, World, problems, request, settings
from tests.support.outcome import result

ALICE = Principal("alice", groups=frozenset({"ops"}), authenticator="authenticator staff")
SECTION = "authenticator login"


class Logins:
    """An authenticator and a portal in one world; `more` are keys of the section."""

    def __init__(self, folder, world=None, section=SECTION, **more):
        self.world = world or World(section)
        texts = {"providers": "staff, sso", "lifetime": "12h", "idle": "1h", **more}
        values = settings(TYPE, folder, **texts)
        self.told = []
        self.world.state.tell = self._tell
        self.authenticator = SessionAuthenticator(values, self.world.context, self.world.time_of_day)
        self.store = self.authenticator._logins

    async def _tell(self, command):
        self.told.append(command)
        return True

    def login(self, principal=ALICE):
        token, lifetime = result(self.store.create(principal))
        assert len(token) == 43 and lifetime > 0
        return token

    def ask(self, cookie, *fields):
        if isinstance(cookie, str):
            cookie = b"a=b; " + COOKIE + b"=" + cookie.encode()
        return result(self.authenticator.authenticate(request((b"Cookie", cookie), *fields)))

    def items(self, space=LOGINS):
        async def items():
            return await self.world.state.items(space, "", 100)

        return result(items())


@pytest.fixture
def logins(tmp_path):
    return Logins(tmp_path)


def test_a_login_is_known_by_its_cookie_and_vouched_for(logins):
    token = logins.login()
    found = logins.ask(token)
    assert found.names == ("alice", "staff/alice") and found.groups == {"ops"}
    assert found.expires == DAY + 12 * 3600 and found.login == key_of(token)
    assert found.consumed_cookies == {COOKIE} and token not in repr(found) and found.login not in repr(found)
    assert found.authenticator in logins.authenticator.vouches_for and logins.authenticator.ambient


def test_the_state_has_no_cookie(logins):
    token = logins.login()
    (row,) = logins.items()
    assert row[0] == key_of(token) and token not in str(row) + str(logins.items(ACTIVITY))


@pytest.mark.parametrize(
    "cookie",
    [
        b"",
        b"a=b",
        b"__Host-esxiproxy=",
        b"__Host-esxiproxy=" + b"x" * 43,
        b"__Host-esxiproxy=" + b"x" * 44,
        b"__host-esxiproxy={0}",
        b"xx__Host-esxiproxy={0}",
        b"__Host-esxiproxy={0}; __Host-esxiproxy=" + b"y" * 43,
        b'__Host-esxiproxy="{0}"',
        b"__Host-esxiproxy=\xff{0}",
    ],
)
def test_another_cookie_is_no_login_and_no_error(logins, cookie):
    token = logins.login().encode()
    assert logins.ask(cookie.replace(b"{0}", token)) is None


def test_each_login_has_another_id(logins):
    assert len({logins.login() for _ in range(20)}) == 20 and len(logins.items()) == 20


def test_the_logins_of_a_user_are_bounded(logins):
    for _ in range(LOGINS_AT_ONCE):
        logins.login()
    with pytest.raises(AccessDenied, match="too often") as refused:
        logins.login()
    assert (refused.value.status_code, refused.value.fields) == (429, ((b"Retry-After", b"10"),))
    logins.login(replace(ALICE, name="bob"))
    assert len(result(logins.world.state.items(LOGINS, "", 1000))) == LOGINS_AT_ONCE + 1
    logins.world.clock.advance(11)
    logins.login()


def test_a_login_ends_after_its_lifetime_however_much_it_is_used(logins):
    token = logins.login()
    for _ in range(24):
        assert logins.ask(token) is not None
        logins.world.clock.advance(1800)
    assert logins.ask(token) is None


def test_a_login_ends_when_it_is_not_used(logins):
    token = logins.login()
    logins.world.clock.advance(3000)
    assert logins.ask(token) is not None, "a use begins the idle time again"
    logins.world.clock.advance(3599)
    assert logins.ask(token) is not None
    logins.world.clock.advance(3601)
    assert logins.ask(token) is None and logins.items() == []


@pytest.mark.parametrize(
    "field",
    [
        (b"Accept", b"text/event-stream"),
        (b"Sec-Fetch-Dest", b"image"),
        (b"Accept", b"image/avif,image/webp,*/*;q=0.8"),
        (b"X-Automatic-Request", b"1"),
    ],
)
def test_what_an_open_page_asks_by_itself_is_no_use(logins, field):
    token = logins.login()
    for _ in range(3):
        logins.world.clock.advance(1000)
        assert logins.ask(token, field) is not None
    logins.world.clock.advance(601)
    assert logins.ask(token, field) is None


def test_idle_may_be_off(tmp_path):
    logins = Logins(tmp_path, idle="off")
    token = logins.login()
    logins.world.clock.advance(11 * 3600)
    assert logins.ask(token) is not None and logins.items(ACTIVITY) == []


def test_a_logout_ends_the_login_and_its_consoles(logins):
    token, other = logins.login(), logins.login()
    result(logins.store.end(key_of(token)))
    assert logins.ask(token) is None and logins.ask(other) is not None
    (command,) = logins.told
    assert command.fields() == ["kill", f"login:{key_of(token)}", "login ended"]


def test_a_use_at_the_same_time_as_the_logout_does_not_bring_the_login_back(logins):
    token = logins.login()
    result(logins.store.end(key_of(token)))
    result(logins.store._touch(key_of(token), logins.world.time_of_day()))
    assert logins.ask(token) is None


def test_a_login_is_that_of_one_section_and_of_its_providers(tmp_path, logins):
    token = logins.login()
    other = Logins(tmp_path, World("authenticator guests"))
    other.world.context = None
    other.store._state = logins.world.state
    assert other.ask(token) is None, "another section"
    fewer = Logins(tmp_path, logins.world, providers="sso")
    assert fewer.ask(token) is None, "staff is no provider any more"


def test_an_open_console_is_a_use_and_ends_with_its_login(logins):
    token = logins.login()
    remembered = logins.authenticator.remember(request(), logins.ask(token))
    for _ in range(4):
        logins.world.clock.advance(3000)
        assert result(logins.authenticator.reauthenticate(remembered)).name == "alice"
    result(logins.store.end(key_of(token)))
    assert result(logins.authenticator.reauthenticate(remembered)) is None


@pytest.mark.parametrize(
    ("subject", "session", "ended"),
    [
        ("u1", "", {"phone", "desk", "plain"}),
        ("u1", "s1", {"phone", "plain"}),
        ("", "s1", {"phone"}),
        ("u1", "other", {"plain"}),
        ("u9", "s1", set()),
        ("", "other", set()),
    ],
)
def test_a_logout_of_the_provider_ends_the_logins_that_it_names(logins, subject, session, ended):
    made = {"phone": ("u1", "s1"), "desk": ("u1", "s2"), "plain": ("u1", ""), "bob": ("u2", "s3")}
    tokens = {name: result(logins.store.create(ALICE, *ids))[0] for name, ids in made.items()}
    assert result(logins.store.end_those_of("authenticator staff", subject, session)) == len(ended)
    assert {name for name, token in tokens.items() if logins.ask(token) is None} == ended
    assert result(logins.store.end_those_of("authenticator sso", "u2", "")) == 0, "of another provider"


def test_all_logins_of_a_user_can_be_ended(logins):
    token, other = logins.login(), logins.login(Principal("bob", authenticator="authenticator staff"))
    logins.login()
    assert result(end_logins_of(logins.world.state, "staff/alice")) == 2
    assert logins.ask(token) is None and logins.ask(other) is not None


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"principal": 1}', "\udcff", '{"groups": 3}'])
def test_a_value_of_another_version_is_no_login(text):
    assert StoredLogin.parse(text) is None


def test_a_cookie_is_read_in_linear_time():
    assert key_in([b";" * 16000, b"=" * 16000, COOKIE * 1000]) is None


def test_check_names_mistakes(tmp_path):
    assert problems(TYPE, tmp_path, providers="staff", lifetime="1h", idle="2h") == [
        ("idle", "is longer than lifetime, which ends a login first: write a shorter time, or off")
    ]
    assert problems(TYPE, tmp_path, providers="staff") == []
