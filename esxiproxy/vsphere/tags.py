"""The tags of machines, which vCenter has over REST only."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.errors import ServiceUnavailable
from esxiproxy.core.strict_json import strict_json
from esxiproxy.interfaces import Answer, IHttpClient
from esxiproxy.vsphere.answers import MOID
from esxiproxy.vsphere.refused_password import RefusedPassword
from esxiproxy.vsphere.session import FINISH_TIMEOUT
from esxiproxy.vsphere.xml_tree import InvalidAnswer

INTERVAL = 60.0
MAX_TAGS = 2000
_NEW_NAMES = 200
"""Maximum number of names that are read at a time."""
_OLD_NAMES = 20
"""Number of names that are read again at a time, since tags can be renamed."""
_AT_ONCE = 20
"""Number of tags whose machines are asked for in one request."""
_MAX_ANSWER = 8 << 20
_TIMEOUT = 20.0
_LOGOUT_TIMEOUT = 1.5
_ID = re.compile(r"[A-Za-z0-9:._-]{1,256}")
_TOKEN = re.compile(r"[!-~]{1,1024}")
_MAX_NAME = 256


class TagReader:
    """Reads the tags of all machines of a vCenter once a minute, in a login of its own.

    ``show`` gets the names of tags by the ids of machines.  While the tags cannot be read, the last ones
    stay.
    """

    _log = Logger()

    def __init__(
        self,
        vsphere: VSphere,
        http: IHttpClient,
        clock: Any,
        is_vcenter: Callable[[], Any],
        show: Callable[[Mapping[str, frozenset[str]]], None],
        refused: RefusedPassword,
    ) -> None:
        self._vsphere = vsphere
        self._http = http
        self._clock = clock
        self._is_vcenter = is_vcenter
        self._show = show
        self._token = ""
        self._refused = refused
        self._forbidden = RefusedPassword()
        """The password of an account that may not log in over REST."""
        self._names: dict[str, str] = {}
        """The names of tags by their ids, the one that was read longest ago first."""
        self._problem = ""
        self._running: Deferred[None] | None = None
        self._logging_in: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    async def stop(self) -> None:
        """End the reading, and log out.  A login that the server may be making is waited for."""
        if self._logging_in is not None:
            finishing: Deferred[None] = Deferred()
            self._logging_in.addBoth(finishing.callback)
            with suppress(Exception):  # the failure is that of the reading as well
                await finishing.addTimeout(FINISH_TIMEOUT, self._clock)
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        token, self._token = self._token, ""
        if token:
            try:
                await self._request("DELETE", "/api/session", token, timeout=_LOGOUT_TIMEOUT)
            except ServiceUnavailable as error:
                self._report(f"logout failed, the session ends by its idle timeout: {error}")

    async def _run(self) -> None:
        while True:
            delay = INTERVAL
            try:
                if not await self._is_vcenter():
                    self._report("only vCenter has tags, and this is an ESXi host: remove the key tags")
                    return
                self._show(await self._read())
                self._problem = ""
            except (ServiceUnavailable, InvalidAnswer) as error:
                self._report(f"the tags may have changed since, and cannot be read: {error}")
            except CancelledError:
                raise
            except Exception:
                self._log.failure("[vsphere {name}] the tags cannot be read", name=self._vsphere.name)
            await deferLater(self._clock, delay)

    async def _read(self) -> Mapping[str, frozenset[str]]:
        """Return the names of the tags of each machine that has any."""
        await self._log_in()
        tags = _ids(await self._ask("GET", "/api/cis/tagging/tag"))
        if len(tags) > MAX_TAGS:
            self._report(f"vCenter has {len(tags)} tags: only the first {MAX_TAGS} are used")
            tags = tags[:MAX_TAGS]
        await self._read_names(tags)
        found: dict[str, set[str]] = {}
        for start in range(0, len(tags), _AT_ONCE):
            asked = tags[start : start + _AT_ONCE]
            path = "/api/cis/tagging/tag-association?action=list-attached-objects-on-tags"
            for tag, moid in _attached(await self._ask("POST", path, {"tag_ids": asked})):
                if name := self._names.get(tag):
                    found.setdefault(moid, set()).add(name)
        return {moid: frozenset(names) for moid, names in found.items()}

    async def _read_names(self, tags: Sequence[str]) -> None:
        """Read the names of new tags, and some of the others again."""
        listed = set(tags)
        self._names = {tag: name for tag, name in self._names.items() if tag in listed}
        new = [tag for tag in tags if tag not in self._names][:_NEW_NAMES]
        for tag in (*new, *list(self._names)[:_OLD_NAMES]):
            found = await self._ask("GET", f"/api/cis/tagging/tag/{tag}")
            name = found.get("name") if isinstance(found, dict) else None
            self._names.pop(tag, None)
            if isinstance(name, str):
                self._names[tag] = name[:_MAX_NAME]

    async def _log_in(self) -> None:
        if self._token:
            return
        self._logging_in = Deferred.fromCoroutine(self._new_token())
        try:
            await self._logging_in
        finally:
            self._logging_in = None

    async def _new_token(self) -> None:
        """Log in over REST, unless the server has refused the password before."""
        try:
            password = self._vsphere.password()
        except BadValue as error:
            raise InvalidAnswer(f"password_file {error}") from None
        for refused in (self._refused, self._forbidden):
            if (text := refused.sentence(password)) is not None:
                raise InvalidAnswer(text.removeprefix(f"[vsphere {self._vsphere.name}] "))
        encoded = b64encode(f"{self._vsphere.user}:{password}".encode())
        answer = await self._request(
            "POST", "/api/session", fields=((b"Authorization", b"Basic " + encoded),)
        )
        if answer.status == 401:
            text = (
                "vCenter refuses user and password over REST: there is no further login, also for consoles, "
                "before the password in password_file changes or the configuration is reloaded"
            )
            self._refused.note(password, f"[vsphere {self._vsphere.name}] {text}")
            raise InvalidAnswer(text)
        if answer.status == 403:
            text = "vCenter does not let this account log in over REST"
            self._forbidden.note(password, text)
            raise InvalidAnswer(text)
        token = _value(answer) if answer.status in (200, 201) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise InvalidAnswer(f"the login over REST was answered with status {answer.status}")
        self._token = token

    async def _ask(self, method: str, path: str, content: Any = None) -> Any:
        """Return the JSON value that a request within the login is answered with."""
        answer = await self._request(method, path, self._token, content)
        if answer.status == 401:
            self._token = ""
        if answer.status != 200:
            raise InvalidAnswer(f"a request for tags was answered with status {answer.status}")
        return _value(answer)

    async def _request(
        self,
        method: str,
        path: str,
        token: str = "",
        content: Any = None,
        fields: Sequence[tuple[bytes, bytes]] = (),
        timeout: float = _TIMEOUT,
    ) -> Answer:
        body = b"" if content is None else json.dumps(content).encode()
        return await self._http.request(
            method,
            f"{self._vsphere.url}{path}",
            fields=(
                *fields,
                *(((b"vmware-api-session-id", token.encode()),) if token else ()),
                *(((b"Content-Type", b"application/json"),) if body else ()),
            ),
            body=body,
            timeout=timeout,
            max_body=_MAX_ANSWER,
            identity=self._vsphere.identity,
        )

    def _report(self, text: str) -> None:
        """Log a problem, once until the tags can be read again."""
        if text != self._problem:
            self._problem = text
            self._log.warn("[vsphere {name}] {text}", name=self._vsphere.name, text=text)


def _value(answer: Answer) -> Any:
    try:
        return strict_json(answer.body)
    except ValueError as error:
        raise InvalidAnswer(f"an answer over REST cannot be read: {error}") from None


def _ids(value: Any) -> list[str]:
    """Return the ids of tags in an answer."""
    if not isinstance(value, list):
        raise InvalidAnswer("the answer with the tags is no list")
    return [each for each in value if isinstance(each, str) and _ID.fullmatch(each)]


def _attached(value: Any) -> Iterator[tuple[str, str]]:
    """Yield pairs of a tag and the id of a machine that has it."""
    for each in value if isinstance(value, list) else ():
        objects = each.get("object_ids") if isinstance(each, dict) else None
        for found in objects if isinstance(objects, list) else ():
            if isinstance(found, dict) and found.get("type") == "VirtualMachine":
                moid = found.get("id")
                if isinstance(moid, str) and MOID.fullmatch(moid):
                    yield str(each.get("tag_id")), moid
