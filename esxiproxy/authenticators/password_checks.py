"""Checks passwords in threads: each network waits its turn, and a good answer is kept for a minute."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from esxiproxy.authenticators.loggable import loggable
from esxiproxy.authenticators.login_throttle import LoginThrottle, too_many_logins
from esxiproxy.authenticators.password_file import Passwords
from esxiproxy.core.errors import SessionError
from esxiproxy.core.passwords import PasswordHash
from esxiproxy.plugins import Context

CACHED = 60.0
"""Seconds for which a good answer is kept."""
MAX_CACHED = 1024
_AT_A_TIME = 2
"""Checks of one network that run at a time in this process."""
_MAX_WAITING = 32
"""Checks of one network that wait in this process."""


@dataclass(eq=False, slots=True)
class _Check:
    """A check that runs, and the calls that wait for its answer."""

    waiters: set[Deferred[PasswordHash | None]] = field(default_factory=set)

    def wait(self) -> Deferred[PasswordHash | None]:
        """Return the answer.  A cancelled call leaves the check to the other ones."""
        waiter: Deferred[PasswordHash | None] = Deferred(self.waiters.discard)
        self.waiters.add(waiter)
        return waiter

    def finish(self, outcome: PasswordHash | Failure | None) -> None:
        """Give every call the answer."""
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            waiter.callback(outcome)


class PasswordChecks:
    """The checks of the passwords in a file.

    Equal credentials of one network are checked once.  A check continues when the client disconnects, because
    a thread cannot be stopped, and the failure counts.  Credentials are kept as their HMAC under a random key
    of this object.
    """

    def __init__(self, passwords: Passwords, context: Context, throttle: LoginThrottle) -> None:
        self._passwords = passwords
        self._context = context
        self._throttle = throttle
        self._key = secrets.token_bytes(32)
        self._checks: dict[tuple[bytes, str], _Check] = {}
        self._turns: dict[str, DeferredSemaphore] = {}
        self._good: OrderedDict[bytes, tuple[str, PasswordHash, float]] = OrderedDict()

    @property
    def passwords(self) -> Passwords:
        """The users of the file."""
        return self._passwords

    def replace(self, passwords: Passwords) -> None:
        """Use another version of the file.  Answers for users that have changed are dropped."""
        self._passwords = passwords
        for digest, (name, known, _expires) in list(self._good.items()):
            if passwords.users.get(name) != known:
                del self._good[digest]

    def cached(self, name: str, password: str) -> PasswordHash | None:
        """Return the user's hash if these credentials were good within the last minute."""
        found = self._good.get(self._digest(name, password))
        return found[1] if found is not None and found[2] > self._context.clock.seconds() else None

    async def check(self, name: str, password: str, network: str) -> PasswordHash | None:
        """Return the user's hash if the password is right, else None.

        Raises AccessDenied with status 429 for a network with too many failures.
        """
        if (known := self.cached(name, password)) is not None:
            return known
        key = self._digest(name, password), network
        if (same := self._checks.get(key)) is not None:
            return await same.wait()
        if network in self._turns and len(self._turns[network].waiting) >= _MAX_WAITING:
            raise too_many_logins(1)
        check = self._checks[key] = _Check()
        waiter = check.wait()
        running = Deferred.fromCoroutine(self._run(key, check, name, password))
        running.addErrback(self._log_bug).addBoth(check.finish)
        return await waiter

    async def _run(
        self, key: tuple[bytes, str], check: _Check, name: str, password: str
    ) -> PasswordHash | None:
        """Check a password when it is the turn of its network."""
        digest, network = key
        turns = self._turns.setdefault(network, DeferredSemaphore(_AT_A_TIME))
        await turns.acquire()
        try:
            if not check.waiters:  # every client has disconnected while the check waited
                return None
            await self._throttle.check(network)
            known = await self._verified(name, password)
            if known is None:
                await self._count_failure(name, network)
            else:
                self._keep(digest, name, known)
            return known
        finally:
            self._checks.pop(key, None)
            turns.release()
            if turns.tokens == turns.limit:
                self._turns.pop(network, None)

    async def _verified(self, name: str, password: str) -> PasswordHash | None:
        """Return the user's hash if the password is right and the user is still there afterwards."""
        known = self._passwords.users.get(name)
        against = self._passwords.decoy(name, self._key) if known is None else known
        if against is None:
            return None
        octets = password.encode("utf-8", "surrogatepass")
        is_right = await self._context.in_thread(against.verify, octets)
        return known if is_right and known == self._passwords.users.get(name) else None

    def _keep(self, digest: bytes, name: str, known: PasswordHash) -> None:
        self._good[digest] = name, known, self._context.clock.seconds() + CACHED
        self._good.move_to_end(digest)
        while len(self._good) > MAX_CACHED:
            self._good.popitem(last=False)

    def _digest(self, name: str, password: str) -> bytes:
        """Return the HMAC of credentials.  The length of the name makes their text unambiguous."""
        text = f"{len(name)}:{name}{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, sha256)

    async def _count_failure(self, name: str, network: str) -> None:
        """Count a failed login, and log it even if the state cannot count it."""
        wait = 0.0
        try:
            wait = await self._throttle.failed(network)
        finally:
            self._context.log.warn(
                "[{section}] failed login of '{name}' from {network}{more}",
                section=self._context.section,
                name=loggable(name),
                network=network,
                more=f", which now has to wait {wait:.0f} s" if wait else "",
            )

    def _log_bug(self, failure: Failure) -> Failure:
        """Log an unexpected error: the calls that would log it may have been cancelled."""
        if not isinstance(failure.value, SessionError):
            self._context.log.failure(
                "[{section}] cannot check a password", failure, section=self._context.section
            )
        return failure
