"""The sources of the keys for an authenticator ``jwt``: a file that is watched, or a URL that is fetched."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from esxiproxy.core.errors import ServiceUnavailable, SessionError
from esxiproxy.core.jwks import MAX_DOCUMENT, BadKeys, KeySet, parse_jwks, read_jwks
from esxiproxy.core.routing import Identity
from esxiproxy.plugins import Context
from esxiproxy.plugins.watched_files import WatchedFiles

MAX_AGE = 600.0
"""Seconds after which a fetched document is fetched again."""
REFETCH_INTERVAL = 30.0
"""Seconds between two fetches while there are keys: for an unknown key id, and after a failure."""
RETRY_INTERVAL = 5.0
"""Seconds between two fetches while there are no keys at all."""
FETCH_TIMEOUT = 5.0
"""Seconds that a fetch may take, which is less than the default of ``decision_timeout``."""
_ACCEPT = ((b"Accept", b"application/jwk-set+json, application/json"),)


class KeySource(Protocol):
    """A source of keys."""

    @property
    def loaded(self) -> KeySet | None:
        """The keys that are known at this moment, None if there are none yet."""

    async def current(self) -> KeySet:
        """Return the keys, which are read first if necessary.  Raises ServiceUnavailable without any."""

    async def after_unknown(self) -> KeySet:
        """Return the keys after a token has named an unknown one."""

    async def ready(self) -> None:
        """Check that the source can be used.  A failure refuses the start."""


class KeySetFile:
    """The keys of a JWKS file.  It is read again in a thread when it changes.

    A version with a mistake is refused, and the keys of the version before stay.
    """

    def __init__(self, path: Path, algorithms: Collection[str], context: Context) -> None:
        self._path = path
        self._context = context
        self._files = WatchedFiles(
            [path], context, partial(read_jwks, path, algorithms), self._log_skipped, self._refused
        )

    @property
    def loaded(self) -> KeySet | None:
        return self._files.value

    async def ready(self) -> None:
        self._log_skipped(await self._files.current())

    async def current(self) -> KeySet:
        try:
            return await self._files.current()
        except BadKeys as error:
            raise ServiceUnavailable(f"no keys for tokens: {error}") from None

    async def after_unknown(self) -> KeySet:
        return await self.current()

    def _log_skipped(self, found: KeySet) -> None:
        _log_skipped(self._context, found, self._path.name)

    def _refused(self, failure: Failure) -> None:
        if isinstance(failure.value, BadKeys):
            self._context.log.error(
                "[{section}] refused the new version of its keys, the old one stays: {reason}",
                section=self._context.section,
                reason=str(failure.value),
            )
        else:
            self._context.log.failure(
                "[{section}] failed to read its keys, the old ones stay",
                failure,
                section=self._context.section,
            )


class KeySetUrl:
    """The keys of a JWKS document at a URL, which is fetched when it is needed.

    Requests that come during a fetch share its result.  When a fetch fails, the keys of the one before stay.
    ``previous`` is the source before a reload: its keys are used if its settings are the same.
    """

    def __init__(
        self,
        url: str,
        identity: Identity | None,
        algorithms: Collection[str],
        context: Context,
        previous: KeySource | None = None,
    ) -> None:
        self._url = url
        self._identity = identity
        self._algorithms = algorithms
        self._context = context
        self._reason = ""
        self._asked_at = self._fetched_at = float("-inf")
        self._is_fetching = False
        self._waiting: set[Deferred[None]] = set()
        self.loaded: KeySet | None = None
        if isinstance(previous, KeySetUrl) and previous._settings == self._settings:
            self.loaded = previous.loaded
            self._asked_at, self._fetched_at = previous._asked_at, previous._fetched_at
            self._reason = previous._reason

    @property
    def _settings(self) -> tuple[object, ...]:
        return self._url, self._identity, tuple(self._algorithms)

    @property
    def where(self) -> str:
        """The URL without its query, for the log."""
        return urlsplit(self._url)._replace(query="").geturl()

    async def ready(self) -> None:
        """Do nothing: the document is fetched at the first need, so that no start depends on its server."""

    async def current(self) -> KeySet:
        if self.loaded is None:
            await self._refresh(RETRY_INTERVAL)
        elif self._context.clock.seconds() - self._fetched_at >= MAX_AGE:
            await self._refresh(REFETCH_INTERVAL)
        return self._known()

    async def after_unknown(self) -> KeySet:
        await self._refresh(REFETCH_INTERVAL)
        return self._known()

    def _known(self) -> KeySet:
        if self.loaded is None:
            raise ServiceUnavailable(f"no keys for tokens: {self._reason}")
        return self.loaded

    async def _refresh(self, interval: float) -> None:
        """Fetch the document unless it was asked for within the interval.  Wait for a fetch that runs."""
        if not self._is_fetching:
            now = self._context.clock.seconds()
            if now - self._asked_at < interval:
                return
            self._asked_at, self._is_fetching = now, True
            Deferred.fromCoroutine(self._fetch())
        if self._is_fetching:
            waiting: Deferred[None] = Deferred(self._waiting.discard)
            self._waiting.add(waiting)
            await waiting

    async def _fetch(self) -> None:
        """Fetch the keys, and keep the old ones if that fails."""
        context = self._context
        try:
            answer = await context.http.request(
                "GET",
                self._url,
                fields=_ACCEPT,
                timeout=FETCH_TIMEOUT,
                max_body=MAX_DOCUMENT,
                identity=self._identity,
            )
            if answer.status != 200:
                raise ServiceUnavailable(f"{self.where} answered with status {answer.status}")
            found: KeySet = await context.in_thread(parse_jwks, answer.body, self._algorithms)
        except BadKeys as error:
            self._failed(f"the document at {self.where} {error}")
        except SessionError as error:
            self._failed(str(error))
        except Exception:
            context.log.failure("[{section}] failed to fetch its keys", section=context.section)
            self._reason = f"{self.where} cannot be fetched, see the log"
        else:
            self.loaded, self._fetched_at = found, context.clock.seconds()
            _log_skipped(context, found, self.where)
        finally:
            self._is_fetching = False
            waiting, self._waiting = self._waiting, set()
            for each in waiting:
                each.callback(None)

    def _failed(self, reason: str) -> None:
        self._reason = reason
        stays = "the old ones stay" if self.loaded is not None else "no token can be checked"
        self._context.log.warn(
            "[{section}] cannot fetch its keys, {stays}: {reason}",
            section=self._context.section,
            stays=stays,
            reason=reason,
        )


def _log_skipped(context: Context, found: KeySet, where: str) -> None:
    for reason in found.skipped:
        context.log.info(
            "[{section}] skips a key of {where}: {reason}",
            section=context.section,
            where=where,
            reason=reason,
        )
