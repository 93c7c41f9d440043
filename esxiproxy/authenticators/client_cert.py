"""An authenticator that knows clients by their certificate, which the listener has verified."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cryptography import x509
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.authenticators.client_name import UNREADABLE, GroupSource, NameSource, groups_of, name_of
from esxiproxy.authenticators.keys import REAUTHENTICATION
from esxiproxy.authenticators.loggable import loggable
from esxiproxy.authenticators.revocation import ListUnusable, RevocationList, check_revocation, read_lists
from esxiproxy.core.config.file_path import file_path
from esxiproxy.core.errors import AccessDenied, ServiceUnavailable
from esxiproxy.core.http.request import Request
from esxiproxy.core.routing import Principal
from esxiproxy.interfaces import IAuthenticator, IReauthenticator
from esxiproxy.plugins import AUTHENTICATOR, BadValue, Context, Key, Names, SectionValues, Type, choice
from esxiproxy.plugins.watched_files import WatchedFiles


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The certificate (DER) that a console was opened with."""

    certificate: bytes = field(repr=False)


@implementer(IAuthenticator, IReauthenticator)
class ClientCert:
    """An authenticator whose principals are the owners of certificates.

    ``crl`` are files with lists of revoked certificates.  While one of them cannot be read or has expired,
    all clients are refused.
    """

    ambient = True

    def __init__(
        self,
        context: Context,
        name: NameSource = NameSource.COMMON_NAME,
        groups: GroupSource = GroupSource.NONE,
        crl: tuple[Path, ...] = (),
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._context = context
        self._name = name
        self._groups = groups
        self._crl = crl
        self._time_of_day = time_of_day
        self._lists: tuple[RevocationList, ...] | None = None
        self._logged = ""
        self._files = WatchedFiles(crl, context, partial(read_lists, crl), self._loaded, self._failed)

    async def ready(self) -> None:
        """Read the lists of revoked certificates.  Raise BadValue if they cannot be used."""
        if self._crl and self._files.value is None:
            self._lists = await self._files.current()

    async def authenticate(self, request: Request) -> Principal | None:
        if request.certificate is None:
            return None
        await self.ready()
        try:
            return self._principal(request.certificate)
        except ListUnusable as error:
            self._log_unusable(error)
            raise AccessDenied("it cannot be told whether the client's certificate is revoked") from None
        except AccessDenied as error:
            self._context.log.warn(
                "[{section}] the certificate of {client} is refused, {subject}: {error}",
                section=self._context.section,
                client=request.client.host,
                subject=_subject(request.certificate),
                error=str(error),
            )
            raise

    def remember(self, request: Request, principal: Principal) -> object:
        """Return what ``reauthenticate`` needs, before the request is discarded."""
        return _Remembered(request.certificate or b"")

    async def reauthenticate(self, remembered: object) -> Principal:
        """Return the principal of an earlier login.

        Raises AccessDenied if its certificate has expired or is revoked, and ServiceUnavailable while the
        lists of revoked certificates do not tell.
        """
        assert isinstance(remembered, _Remembered)
        try:
            return self._principal(remembered.certificate)
        except ListUnusable as error:
            self._log_unusable(error)
            raise ServiceUnavailable(str(error)) from None

    def _principal(self, der: bytes) -> Principal:
        """Return the owner of a certificate.  Raises AccessDenied and ListUnusable."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            expires = certificate.not_valid_after_utc.timestamp()
        except UNREADABLE as error:
            raise AccessDenied("the client's certificate cannot be read") from error
        now = self._time_of_day()
        if now >= expires:
            raise AccessDenied("the client's certificate has expired")
        if self._crl:
            if self._lists is None:
                raise ListUnusable("a list of revoked certificates cannot be read")
            check_revocation(certificate, self._lists, now)
        groups = groups_of(certificate, self._groups)
        return Principal(name_of(certificate, self._name), groups=groups, expires=expires)

    def _loaded(self, lists: tuple[RevocationList, ...]) -> None:
        self._lists, self._logged = lists, ""
        self._context.log.info(
            "[{section}] the lists of revoked certificates are read again: {count} certificates",
            section=self._context.section,
            count=sum(len(each.serials) for each in lists),
        )

    def _failed(self, failure: Failure) -> None:
        """Refuse all clients: a certificate that a newer list revokes must not be accepted."""
        self._lists = None
        if isinstance(failure.value, BadValue):
            self._log_unusable(failure.value)
        else:
            self._context.log.failure(
                "[{section}] cannot read its files: all clients are refused",
                failure,
                section=self._context.section,
            )

    def _log_unusable(self, error: Exception) -> None:
        """Log why all clients are refused, once for each reason and version of the lists."""
        text = str(error)
        if self._lists is None and isinstance(error, ListUnusable):
            return  # logged when the file was read
        if text != self._logged:
            self._logged = text
            self._context.log.error(
                "[{section}] all client certificates are refused: {error}",
                section=self._context.section,
                error=text,
            )


def _subject(der: bytes) -> str:
    """Return the subject of a certificate and its serial number for a log line."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        return f"'{loggable(certificate.subject.rfc4514_string())}' (serial {certificate.serial_number:x})"
    except UNREADABLE:
        return "whose subject cannot be read"


class ClientCertType:
    """The type ``client_cert``."""

    name = "client_cert"
    help = "Knows clients by the certificate that the listener has verified with `client_ca`."
    unknown_on_admin = "listen asks nobody for a certificate, so nobody can log in with it"
    keys = (
        Key(
            "name",
            AUTHENTICATOR,
            choice(NameSource),
            "subject:CN",
            "Part of the certificate with the client's name. A certificate that has none or several of it is "
            "refused.",
        ),
        Key(
            "groups",
            AUTHENTICATOR,
            choice(GroupSource),
            "none",
            "Part of the certificate with the client's groups.",
        ),
        Key(
            "crl",
            AUTHENTICATOR,
            Type("files", lambda text, folder: _paths(text, folder)),
            None,
            "Files with lists of revoked certificates (CRL, PEM or DER), separated by commas: one list for "
            "each issuer of client certificates. They are read again when they change. While one has expired "
            "or cannot be read, all certificates are refused. Their signatures are not verified.",
        ),
        *REAUTHENTICATION,
    )

    def listener_warnings(self, settings: SectionValues, listener: SectionValues) -> Iterator[str]:
        """Yield a warning for a listener that asks no client for a certificate."""
        if "client_ca" not in listener.present:
            yield "no client is asked for a certificate: set client_ca in the listener"

    def conflicts(self, settings: SectionValues, names: Names) -> Iterator[tuple[str, str]]:
        """Yield a list of revoked certificates that cannot be used.  One that has expired is no mistake."""
        for path in settings["crl"] or ():
            try:
                read_lists([path])
            except BadValue as error:
                yield "crl", str(error)

    def create(self, settings: SectionValues, context: Context) -> ClientCert:
        """Return the authenticator."""
        return ClientCert(context, settings["name"], settings["groups"], settings["crl"] or ())


def _paths(text: str, folder: Path) -> tuple[Path, ...]:
    """Return the paths in a list.  Raises BadValue."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise BadValue("has an empty name of a file: write FILE, or FILE, FILE")
    return tuple(dict.fromkeys(file_path(part, folder) for part in parts))


TYPE = ClientCertType()
