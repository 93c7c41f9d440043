"""What one section gives, and the listener, the upstream or the limits that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.config.access_log import AccessLogConfig
from esxiproxy.core.config.ini import IniSection
from esxiproxy.core.config.key import SectionKind
from esxiproxy.core.config.model import Listener, ListenerTLS, Manhole
from esxiproxy.core.config.schema import LIMITS, QUOTAS, keys_of
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.keepalive import PROFILES
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits


@dataclass(frozen=True, slots=True)
class SectionValues:
    """A section of a known kind, with the values that could be read.

    ``present`` has every key that somebody meant to write, those with bad values and misspelt ones included:
    nobody should call them missing.
    """

    section: IniSection
    kind: SectionKind
    values: Mapping[str, Any]
    present: frozenset[str]

    @property
    def name(self) -> str:
        return self.section.name

    def has(self, key: str) -> bool:
        """Whether the key is there under its own name, whatever its value."""
        return key in self.section.entries

    def is_invalid(self, key: str) -> bool:
        """Whether the key is there, with a value that nobody can read."""
        return key in self.present and key not in self.values

    def __getitem__(self, key: str) -> Any:
        """The key's value, or its default; None if it has none."""
        if key in self.values:
            return self.values[key]
        known = keys_of(self.kind)[key]
        return None if known.default is None else known.type.parse(known.default, Path())


def limits_of(given: SectionValues) -> Mapping[str, Any]:
    """The limits that a section sets itself: a word for several of them goes behind each one's own key."""
    profile = PROFILES[given.values["keepalive"]] if "keepalive" in given.values else {}
    own = {key: value for key, value in given.values.items() if key in LIMITS}
    return MappingProxyType({**profile, **own})


def quotas_of(given: SectionValues) -> Mapping[str, Any]:
    """The quotas that a section sets itself."""
    return MappingProxyType({key: value for key, value in given.values.items() if key in QUOTAS})


def manhole_of(given: SectionValues, folder: Path) -> Manhole | None:
    """The manhole of [proxy]; its host key is beside the configuration where the file does not say."""
    address, keys = given["manhole"], given["manhole_keys"]
    if address is None or keys is None:
        return None
    return Manhole(address.endpoint, keys, given["manhole_host_key"] or folder / "manhole_host_key")


def access_log_of(given: SectionValues) -> AccessLogConfig | None:
    """The access log of [proxy]."""
    to = given["access_log"]
    return None if to is None else AccessLogConfig(to, given["access_log_format"])


def proxy_of(given: SectionValues, folder: Path) -> Mapping[str, Any]:
    """What [proxy] says of the whole configuration, by the names of its fields."""
    return {
        "limits": SessionLimits().overridden_by(limits_of(given)),
        "quotas": ConnectionLimits().overridden_by(quotas_of(given)),
        "services": given["services"] or (),
        "manhole": manhole_of(given, folder),
        "access_log": access_log_of(given),
        "session_log": given["session_log"],
        "workers": given["workers"],
        "worker_shutdown_timeout": given["worker_shutdown_timeout"],
        "state": given["state"],
    }


def listener_of(given: SectionValues, limits: SessionLimits, quotas: ConnectionLimits) -> Listener:
    """The listener of a section, with the limits and quotas of [proxy] where it has none itself."""
    address, certificate, private_key = given["listen"], given["certificate"], given["private_key"]
    tls = None
    if certificate is not None and private_key is not None:
        tls = ListenerTLS(certificate, private_key, given["tls_minimum"], given["client_ca"])
    return Listener(
        name=given.name,
        endpoint=address.endpoint,
        address=address.text,
        tls=tls,
        upstream=given["upstream"],
        router=given["router"],
        authenticator=given["authenticator"],
        http=given["http"],
        limits=limits.overridden_by(limits_of(given)),
        quotas=quotas.overridden_by(quotas_of(given)),
        paths=given["paths"] or (),
        trusted_proxies=given["trusted_proxies"] or TrustedProxies(),
        proxy_protocol=given["proxy_protocol"],
        health=given["health"],
    )


def upstream_of(given: SectionValues) -> Upstream:
    """The upstream of a section."""
    url = given["url"]
    return Upstream(
        name=given.name,
        host=url.host,
        port=url.port,
        secure=url.secure,
        verify=given["verify"],
        pins=given["pin"] or (),
        ca=given["ca"],
        host_field=given["host"],
        origin_field=given["origin"],
        subprotocol=given["subprotocol"],
        send_proxy_protocol=given["send_proxy_protocol"],
        overrides=limits_of(given),
        quotas=quotas_of(given),
        tls_profile=given["tls_profile"],
    )
