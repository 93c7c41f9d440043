"""Functions that build a listener, an upstream or limits from the values of a section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.config.access_log import AccessLogConfig
from esxiproxy.core.config.model import Listener, ListenerTLS, Manhole, TicketRewriting
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.config.schema import CONNECTION_LIMIT_KEYS, SESSION_LIMIT_KEYS
from esxiproxy.core.config.section import SectionValues
from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.config.tickets import Tickets
from esxiproxy.core.http.forwarded import TrustedProxies
from esxiproxy.core.keepalive import PROFILES
from esxiproxy.core.routing import TCPAddress, Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits


def limits_of(given: SectionValues) -> Mapping[str, Any]:
    """Return the session limits of a section, by field name.

    A key of its own overrides the keepalive profile.
    """
    profile = PROFILES[given.values["keepalive"]] if "keepalive" in given.values else {}
    own = {key: value for key, value in given.values.items() if key in SESSION_LIMIT_KEYS}
    return MappingProxyType({**profile, **own})


def connection_limits_of(given: SectionValues) -> Mapping[str, Any]:
    """Return the connection limits of a section, by field name."""
    return MappingProxyType(
        {key: value for key, value in given.values.items() if key in CONNECTION_LIMIT_KEYS}
    )


def manhole_of(given: SectionValues, folder: Path) -> Manhole | None:
    """Return the manhole of [proxy], or None.

    Without ``manhole_host_key``, the host key is next to the configuration file.
    """
    address, keys = given["manhole"], given["manhole_keys"]
    if address is None or keys is None:
        return None
    return Manhole(address.endpoint, keys, given["manhole_host_key"] or folder / "manhole_host_key")


def access_log_of(given: SectionValues) -> AccessLogConfig | None:
    """Return the access log of [proxy], or None."""
    to = given["access_log"]
    return None if to is None else AccessLogConfig(to, given["access_log_format"])


def state_of(given: SectionValues) -> Path | RedisAddress | None:
    """Return where the state of [proxy] is, or None for the memory of one process."""
    state: Path | RedisAddress | None = given["state"]
    if not isinstance(state, RedisAddress):
        return state
    service = state.service
    if service is not None:
        service = replace(service, password_file=given["state_sentinel_password_file"])
    return replace(
        state,
        service=service,
        password_file=given["state_password_file"],
        ca=given["state_ca"],
        prefix=given["state_prefix"],
        when_down=given["state_down"],
    )


def proxy_of(given: SectionValues, folder: Path) -> Mapping[str, Any]:
    """Return the fields of :class:`Config` that [proxy] sets, by name."""
    return {
        "limits": SessionLimits().overridden_by(limits_of(given)),
        "connection_limits": ConnectionLimits().overridden_by(connection_limits_of(given)),
        "services": given["services"] or (),
        "manhole": manhole_of(given, folder),
        "access_log": access_log_of(given),
        "session_log": given["session_log"],
        "workers": given["workers"],
        "worker_shutdown_timeout": given["worker_shutdown_timeout"],
        "state": state_of(given),
        "machine": given["machine"] or "",
    }


def listener_of(
    given: SectionValues,
    limits: SessionLimits,
    connection_limits: ConnectionLimits,
    routers: tuple[PluginSection, ...],
    authenticators: tuple[PluginSection, ...],
) -> Listener:
    """Return the listener of a section, with the limits of [proxy] where the section has none."""
    address, certificate, private_key = given["listen"], given["certificate"], given["private_key"]
    tls = None
    if certificate is not None and private_key is not None:
        tls = ListenerTLS(
            certificate,
            private_key,
            given["tls_minimum"],
            given["client_ca"],
            given["client_certificates"],
        )
    return Listener(
        name=given.name,
        endpoint=address.endpoint,
        address=address.text,
        tls=tls,
        upstream=given["upstream"],
        routers=routers,
        authenticators=authenticators,
        http=given["http"],
        limits=limits.overridden_by(limits_of(given)),
        connection_limits=connection_limits.overridden_by(connection_limits_of(given)),
        paths=given["paths"] or (),
        trusted_proxies=given["trusted_proxies"] or TrustedProxies(),
        proxy_protocol=given["proxy_protocol"],
        health=given["health"],
        origins=given["origins"],
        public_url=given["public_url"],
        embed=given["embed"] or (),
        tickets=tickets_of(given),
        public_certificate=given["public_certificate"] or certificate,
    )


def tickets_of(given: SectionValues) -> TicketRewriting | None:
    """Return the rule for tickets of a listener, or None if its answers are not changed."""
    if given["tickets"] is not Tickets.REWRITE:
        return None
    return TicketRewriting(
        given["tickets_allow"] or (),
        given["public_url"] or "",
        given["public_certificate"] or given["certificate"] or Path(),
    )


def upstream_of(given: SectionValues) -> Upstream:
    """Return the upstream of a section.  Without ``url`` its host is empty."""
    urls = given["url"] or ()
    url = urls[0] if urls else None
    return Upstream(
        name=given.name,
        host="" if url is None else url.host,
        port=0 if url is None else url.port,
        secure=url is None or url.secure,
        verify=given["verify"],
        pins=given["pin"] or (),
        ca=given["ca"],
        host_field=given["host"],
        origin_field=given["origin"],
        subprotocol=given["subprotocol"],
        send_proxy_protocol=given["send_proxy_protocol"],
        overrides=limits_of(given),
        connection_limits=connection_limits_of(given),
        tls_profile=given["tls_profile"],
        further=tuple(TCPAddress(each.host, each.port) for each in urls[1:]),
        balance=given["balance"],
        failover_delay=given["failover_delay"],
        health_check=given["health_check"],
    )
