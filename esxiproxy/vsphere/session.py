"""The login at one vCenter or ESXi host, which all calls share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.vsphere import VSphere
from esxiproxy.core.errors import ServiceUnavailable, VSphereUnavailable
from esxiproxy.interfaces import Answer, IHttpClient
from esxiproxy.vsphere import calls
from esxiproxy.vsphere.answers import ServiceContent, service_content
from esxiproxy.vsphere.refused_password import RefusedPassword
from esxiproxy.vsphere.soap import OLDEST_VERSION, SoapCall, SoapFault, answer_of, newest_version
from esxiproxy.vsphere.xml_tree import InvalidAnswer

CALL_TIMEOUT = 10.0
FINISH_TIMEOUT = 1.0
"""Seconds that a stop waits for a login that runs."""
LOGOUT_TIMEOUT = 1.5
RETRY_DELAY = 1.0
"""Seconds after a login that could not be tried until the next one is."""
LOST_DELAY = 60.0
"""Seconds after a login without an answer until the next one, since the server may have counted it."""
FAULT_DELAY = 300.0
"""Seconds after a login that was refused for another reason than its password until the next one."""
_MAX_ANSWER = 1 << 20
_COOKIE_NAME = "vmware_soap_session"
_COOKIE = re.compile(rb"vmware_soap_session=([!#-+\--:<-\[\]-~]+|\"[!#-+\--:<-\[\]-~]*\")")
_WRONG_PASSWORD = frozenset({"InvalidLogin", "PasswordExpired", "AccountLocked"})


@dataclass(frozen=True, slots=True)
class SoapLogin:
    """One login: the objects of the server, and the cookie of the session with its quotes."""

    content: ServiceContent
    version: str
    cookie: bytes = field(repr=False)


class VSphereSession:
    """The login at one server.

    There is one login at a time for all calls that wait for it.  After a wrong password, also one that the
    reader of tags has tried, there is no further one until the password in its file changes.  A call that
    finds its login ended logs in again and is repeated once: the server has not carried it out.  No other
    call is repeated.
    """

    _log = Logger()

    def __init__(self, vsphere: VSphere, http: IHttpClient, clock: Any, refused: RefusedPassword) -> None:
        self._vsphere = vsphere
        self._http = http
        self._clock = clock
        self._current: SoapLogin | None = None
        self._running: Deferred[None] | None = None
        self._waiting: list[Deferred[SoapLogin]] = []
        self._refused = refused
        self._failed: tuple[float, str] | None = None
        """The time of the next login, and the sentence about the last one."""
        self._stopped = False

    def login(self) -> Deferred[SoapLogin]:
        """Return the current login, or a new one.  Fails with VSphereUnavailable."""
        if self._stopped:
            return fail(VSphereUnavailable(f"[vsphere {self._vsphere.name}] has stopped"))
        if self._current is not None:
            return succeed(self._current)
        waiting: Deferred[SoapLogin] = Deferred(self._forget)
        self._waiting.append(waiting)
        if self._running is None:
            running = self._running = Deferred.fromCoroutine(self._log_in())
            running.addErrback(self._login_failed)
            if running.called and self._running is running:
                self._running = None
        return waiting

    def end(self, login: SoapLogin) -> None:
        """Note that a login has ended at the server, so that the next call logs in."""
        if self._current is login:
            self._current = None

    async def call(self, call: SoapCall, timeout: float = CALL_TIMEOUT) -> Element:
        """Send a call within the login.  Raise SoapFault, InvalidAnswer, ServiceUnavailable."""
        login = await self.login()
        try:
            return await self.send(login, call, timeout)
        except SoapFault as fault:
            if fault.name != "NotAuthenticated":
                raise
        self.end(login)
        login = await self.login()
        return await self.send(login, call, timeout)

    async def send(
        self, login: SoapLogin, call: SoapCall, timeout: float = CALL_TIMEOUT, max_body: int = _MAX_ANSWER
    ) -> Element:
        """Send a call within this login, once.  Raise SoapFault, InvalidAnswer, ServiceUnavailable."""
        answer = await self._post(call, login.version, login.cookie, timeout, max_body)
        return answer_of(call, answer.status, answer.body)

    async def get(self, path: str, max_body: int, timeout: float = CALL_TIMEOUT) -> Answer:
        """Return the answer to a GET within the login, which may have any status."""
        answer = await self._get(path, max_body, timeout, await self.login())
        return answer

    async def stop(self) -> None:
        """Log out."""
        self._stopped = True
        if self._running is not None:
            finishing: Deferred[None] = Deferred()
            self._running.addBoth(finishing.callback)
            try:
                await finishing.addTimeout(FINISH_TIMEOUT, self._clock)
            except Exception:
                if self._running is not None:
                    self._running.cancel()
        login, self._current = self._current, None
        if login is None:
            return
        try:
            await self.send(login, calls.logout(login.content.session_manager), LOGOUT_TIMEOUT)
        except (SoapFault, InvalidAnswer, ServiceUnavailable) as error:
            self._log.info(
                "[vsphere {name}] logout failed, the session ends by its idle timeout: {error}",
                name=self._vsphere.name,
                error=error,
            )

    async def _log_in(self) -> None:
        """Log in, and give the login to all calls that wait."""
        password = self._password()
        if self._failed is not None and self._clock.seconds() < self._failed[0]:
            raise VSphereUnavailable(self._failed[1])
        delay = RETRY_DELAY
        try:
            # These requests have no password.  When they fail, for a certificate that has changed as well,
            # there is no login.
            content, version, cookie = await self._retrieve_content()
            delay = LOST_DELAY
            login = await self._new_login(content, version, cookie, password)
        except SoapFault as fault:
            raise self._refusal(fault, password) from None
        except (ServiceUnavailable, InvalidAnswer) as error:
            text = f"[vsphere {self._vsphere.name}] {error}"
            self._failed = (self._clock.seconds() + delay, text)
            raise VSphereUnavailable(text) from None
        self._failed = None
        self._refused.accepted()
        self._running = None
        self._current = login
        self._log.info("[vsphere {name}] logged in", name=self._vsphere.name)
        self._answer_waiting(lambda waiting: waiting.callback(login))

    def _password(self) -> str:
        try:
            password = self._vsphere.password()
        except BadValue as error:
            raise VSphereUnavailable(f"[vsphere {self._vsphere.name}] password_file {error}") from None
        if (text := self._refused.sentence(password)) is not None:
            raise VSphereUnavailable(text)
        return password

    def _refusal(self, fault: SoapFault, password: str) -> VSphereUnavailable:
        """Return the error for a login that the server refused, and keep it."""
        name = self._vsphere.name
        if fault.name in _WRONG_PASSWORD:
            text = (
                f"[vsphere {name}] the server refuses user and password ({fault.name}): there is no further "
                "login before the password in password_file changes or the configuration is reloaded"
            )
            self._refused.note(password, text)
        else:
            text = (
                f"[vsphere {name}] the server refuses the login ({fault}): the next one is in "
                f"{FAULT_DELAY:.0f} s"
            )
            self._failed = (self._clock.seconds() + FAULT_DELAY, text)
        self._log.error("{text}", text=text)
        return VSphereUnavailable(text)

    async def _retrieve_content(self) -> tuple[ServiceContent, str, bytes]:
        """Return the objects of the server, its version of the API, and the cookie that it gave."""
        listed = await self._get("/sdk/vimServiceVersions.xml", _MAX_ANSWER, CALL_TIMEOUT)
        version = newest_version(listed.body) if listed.status == 200 else None
        asked = calls.retrieve_service_content()
        answer = await self._post(asked, version or OLDEST_VERSION)
        try:
            content = service_content(answer_of(asked, answer.status, answer.body))
        except SoapFault as fault:
            raise InvalidAnswer(f"the server refuses {asked.method} ({fault})") from None
        return content, version or content.version or OLDEST_VERSION, _cookie_of(answer)

    async def _new_login(
        self, content: ServiceContent, version: str, cookie: bytes, password: str
    ) -> SoapLogin:
        login = calls.login(content.session_manager, self._vsphere.user, password)
        answer = await self._post(login, version, cookie)
        answer_of(login, answer.status, answer.body)
        cookie = _cookie_of(answer) or cookie
        if not cookie:
            raise InvalidAnswer(f"the answer to Login has no cookie {_COOKIE_NAME}")
        return SoapLogin(content, version, cookie)

    def _login_failed(self, failure: Failure) -> None:
        self._running = None
        error = failure.value
        if not isinstance(error, VSphereUnavailable):
            if not failure.check(CancelledError):
                self._log.failure("[vsphere {name}] the login failed", failure, name=self._vsphere.name)
            error = VSphereUnavailable(f"[vsphere {self._vsphere.name}] the login failed")
        text = error.detail
        self._answer_waiting(lambda waiting: waiting.errback(VSphereUnavailable(text)))

    def _forget(self, cancelled: Deferred[SoapLogin]) -> None:
        if cancelled in self._waiting:
            self._waiting.remove(cancelled)

    def _answer_waiting(self, answer: Callable[[Deferred[SoapLogin]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                answer(each)

    async def _post(
        self,
        call: SoapCall,
        version: str,
        cookie: bytes = b"",
        timeout: float = CALL_TIMEOUT,
        max_body: int = _MAX_ANSWER,
    ) -> Answer:
        fields = (
            (b"Content-Type", b"text/xml; charset=utf-8"),
            (b"SOAPAction", f"urn:vim25/{version}".encode()),
            *_cookie_field(cookie),
        )
        return await self._http.request(
            "POST",
            f"{self._vsphere.url}/sdk",
            fields=fields,
            body=call.envelope(),
            timeout=timeout,
            max_body=max_body,
            identity=self._vsphere.identity,
        )

    async def _get(self, path: str, max_body: int, timeout: float, login: SoapLogin | None = None) -> Answer:
        return await self._http.request(
            "GET",
            f"{self._vsphere.url}{path}",
            fields=_cookie_field(b"" if login is None else login.cookie),
            timeout=timeout,
            max_body=max_body,
            identity=self._vsphere.identity,
        )


def _cookie_field(cookie: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"Cookie", b"vmware_soap_session=" + cookie),) if cookie else ()


def _cookie_of(answer: Answer) -> bytes:
    """Return the value of the session's cookie with its quotes, or nothing."""
    for name, value in answer.fields:
        if name == b"set-cookie" and (found := _COOKIE.match(value)):
            return found[1]
    return b""
