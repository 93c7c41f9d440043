"""Checks for keys of a section, and for sections of a file, that contradict each other.

Each function yields the key with the problem and its text.  A value that cannot be parsed has a problem
already and is not checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from esxiproxy.core.config.key import PROVIDERS
from esxiproxy.core.config.listen_address import IP, ListenAddress
from esxiproxy.core.config.plugin_type import Names, PluginSection
from esxiproxy.core.config.section import SectionValues, find_key
from esxiproxy.core.config.state_url import RedisAddress
from esxiproxy.core.config.url import UpstreamURL
from esxiproxy.core.http.policy import Http
from esxiproxy.core.routing import TLSProfile, Verify
from esxiproxy.core.session.connection_limits import ConnectionLimits

Conflict = tuple[str, str]

_LOCAL: dict[str, tuple[str, ...]] = {
    "localhost": ("127.0.0.1", "::1"),
    "0.0.0.0": ("127.0.0.1",),  # the address that a connection to it reaches
    "::": ("::1",),
}


def proxy_conflicts(proxy: SectionValues, has_portal: bool = False) -> Iterator[Conflict]:
    """Yield the problems of keys in [proxy].  ``has_portal`` is whether a listener has ``http = portal``."""
    if proxy.has("manhole") and "manhole_keys" not in proxy.present:
        yield "manhole", "needs manhole_keys in the same section: the manhole has no passwords"
    for key in ("manhole_keys", "manhole_host_key"):
        if proxy.has(key) and "manhole" not in proxy.present:
            yield key, "needs a manhole in the same section"
    if (
        proxy.has("state")
        and not proxy.is_invalid("state")
        and proxy["state"] is None
        and (proxy["workers"] > 1 or has_portal)
    ):
        why = "several workers need" if proxy["workers"] > 1 else "http = portal needs"
        yield "state", f"memory: serves one process only: {why} sqlite:PATH, or no such key"
    if not proxy.is_invalid("state"):
        yield from _state_conflicts(proxy)


def master_conflicts(proxy: SectionValues) -> Iterator[Conflict]:
    """Yield the problems of keys in [proxy] when several processes run, although there is one worker."""
    alone = not proxy.is_invalid("workers") and proxy["workers"] == 1
    if alone and proxy.has("state") and not proxy.is_invalid("state") and proxy["state"] is None:
        yield (
            "state",
            "memory: serves one process only: with [vsphere NAME] an admin process runs beside the worker; "
            "write sqlite:PATH, or no such key",
        )


def _state_conflicts(proxy: SectionValues) -> Iterator[Conflict]:
    redis = proxy["state"] if isinstance(proxy["state"], RedisAddress) else None
    for key in ("state_password_file", "state_ca", "state_down"):
        if proxy.has(key) and redis is None:
            yield key, "needs the URL of a Redis server as state in the same section"
    if proxy.has("state_sentinel_password_file") and (redis is None or redis.service is None):
        yield (
            "state_sentinel_password_file",
            "needs state = redis+sentinel://HOST/SERVICE in the same section",
        )
    if proxy.has("state_ca") and redis is not None and not redis.secure:
        plain, secure = (
            ("redis", "rediss") if redis.service is None else ("redis+sentinel", "rediss+sentinel")
        )
        yield "state_ca", f"needs state = {secure}://HOST: {plain}:// has no certificates"
    if redis is not None and redis.user and not proxy.has("state_password_file"):
        yield "state", "has a user: name the file of its password as state_password_file"


def proxy_warnings(proxy: SectionValues) -> Iterator[Conflict]:
    """Yield a warning for a password that passes the network in plain text."""
    redis = proxy["state"]
    if not isinstance(redis, RedisAddress) or redis.secure:
        return
    hosts, has_password = [redis.host], proxy.has("state_password_file")
    if redis.service is not None:
        hosts = [host for host, _port in redis.service.sentinels]
        has_password = has_password or proxy.has("state_sentinel_password_file")
    if has_password and not all(map(_is_own, hosts)):
        scheme = "rediss" if redis.service is None else "rediss+sentinel"
        yield "state", f"the password passes in plain text: write {scheme}:// unless the network is trusted"


def listener_conflicts(listener: SectionValues) -> Iterator[Conflict]:
    """Yield the problems of keys in a listener."""
    present = listener.present
    for key, needed in (("certificate", "private_key"), ("private_key", "certificate")):
        if listener.has(key) and needed not in present:
            yield key, f"needs a {needed} in the same section"
    for key in ("tls_minimum", "client_ca"):
        if listener.has(key) and not {"certificate", "private_key"} & present:
            yield key, "only with a certificate and a private_key"
    if listener.has("client_certificates") and "client_ca" not in present:
        yield "client_certificates", "needs a client_ca in the same section"
    if listener.has("embed") and listener["http"] is not Http.PORTAL:
        yield "embed", "only with http = portal"
    if listener["http"] is Http.PORTAL and not listener.is_invalid("public_url"):
        yield from _portal_conflicts(listener)
    if "upstream" not in present and "router" not in present:
        yield "upstream", "missing: name an upstream, or a router that chooses one"
    elif listener.has("upstream") and "static" not in (listener["router"] or ("static",)):
        yield "upstream", "not used: add static to `router`, or remove it and let the routers choose"


def _portal_conflicts(listener: SectionValues) -> Iterator[Conflict]:
    """Yield the problems of the URL and the paths of a portal."""
    if listener["paths"] and b"/" not in listener["paths"]:
        yield "paths", "leaves out pages of the portal: remove it, since the portal has no other paths"
    url: str | None = listener["public_url"]
    if url is None:
        yield "http", "portal needs a public_url in the same section, as in https://consoles.example.com"
        return
    scheme, _, rest = url.partition("://")
    host, slash, _ = rest.partition("/")
    if slash:
        yield "public_url", "has a path: the cookies of a portal are those of a whole host"
    elif scheme != "https" and not _is_own(host.rpartition(":")[0] or host):
        yield (
            "public_url",
            "is not https://: browsers keep the cookies of a portal there and on localhost only",
        )


def listener_warnings(listener: SectionValues) -> Iterator[Conflict]:
    """Yield warnings for keys of a listener that are valid but unsafe."""
    if listener["proxy_protocol"] and "trusted_proxies" not in listener.present:
        yield (
            "proxy_protocol",
            "accepts a PROXY header from every client, which can claim any address: set trusted_proxies",
        )


def type_warnings(listener: SectionValues, plugins: Sequence[Sequence[PluginSection]]) -> Iterator[Conflict]:
    """Yield what the types of the routers and authenticators of a listener warn of."""
    for plugin in (each for several in plugins for each in several):
        warnings = getattr(plugin.type, "listener_warnings", None) if plugin.settings.is_complete else None
        for text in () if warnings is None else warnings(plugin.settings, listener):
            yield plugin.settings.kind.value, f"{plugin.settings.name}: {text}"


def provider_conflicts(
    authenticator: SectionValues, known: Mapping[str, PluginSection]
) -> Iterator[Conflict]:
    """Yield the problems of the authenticators that another one names as its providers."""
    for key, value in authenticator.values.items():
        own = find_key(authenticator.keys, key)
        for name in value if own is not None and own.type is PROVIDERS else ():
            if name not in known:
                there = ", ".join(sorted(known)[:8])
                yield key, f"no [authenticator {name}]: there is {there}"
            elif not getattr(known[name].type, "is_provider", False):
                yield key, f"{name} is of the type {known[name].type.name}, which cannot check a password"


def state_warnings(router: PluginSection, state: Path | RedisAddress | None) -> Iterator[Conflict]:
    """Yield a warning for a router whose links do not survive the loss of a state in memory."""
    if state is None and getattr(router.type, "needs_lasting_state", False):
        yield (
            "type",
            "after a restart, links that work once and were made before it are refused, since the state does "
            "not survive it: set state = sqlite:PATH in [proxy]",
        )


def connection_warnings(section: SectionValues, connection_limits: ConnectionLimits) -> Iterator[Conflict]:
    """Yield a warning when plain HTTP may take every connection to an upstream host.

    ``connection_limits`` are those of the section with the values of [proxy] where it has none itself.
    """
    connections, part = connection_limits.max_connections, connection_limits.http_part
    if connections is None or part is None or part < connections:
        return
    for key in ("max_http_connections", "max_connections"):
        if section.has(key) and not section.is_invalid(key):
            yield (
                key,
                f"leaves no connection for consoles: plain HTTP may take {part} of the {connections} to each "
                "upstream host; set max_http_connections lower than max_connections",
            )
            return


def upstream_conflicts(upstream: SectionValues, is_template: bool = False) -> Iterator[Conflict]:
    """Yield the problems of keys in an upstream.

    A template, which a router names for the settings of its hosts, needs neither ``url`` nor ``pin``.
    """
    verify, url = upstream["verify"], (upstream["url"] or (None,))[0]
    if "url" not in upstream.present and not is_template:
        yield "url", "missing"
    if upstream.is_invalid("verify"):
        return
    if url is not None and not url.secure:
        for key in ("verify", "pin", "ca"):
            if upstream.has(key) and not (key == "verify" and verify is Verify.SYSTEM):
                yield key, "only with wss://: a ws:// upstream has no certificate"
        if upstream["health_check"] == "tls":
            yield "health_check", "tls only with wss://: write tcp"
        if upstream["tls_profile"] is TLSProfile.OLD:
            yield "tls_profile", "only with wss://: a ws:// upstream speaks no TLS"
        return
    yield from verify_conflicts(upstream, is_template)


def verify_conflicts(section: SectionValues, is_template: bool = False) -> Iterator[Conflict]:
    """Yield the problems of the keys that say how the certificate of a server is verified."""
    verify = section["verify"]
    for key, needed in (("pin", Verify.PIN), ("ca", Verify.CA)):
        if section.has(key) and verify is not needed:
            yield key, f"only with verify = {needed.value}"
        if key not in section.present and verify is needed and not (is_template and key == "pin"):
            yield "verify", f"verify = {needed.value} needs a key named {key}"


def address_conflicts(
    section: SectionValues, earlier: Sequence[SectionValues], key: str = "listen"
) -> Iterator[Conflict]:
    """Yield a problem if a listener before has the address in this key of a section."""
    address = section[key]
    if address is None:
        return
    for other in earlier:
        taken = other["listen"]
        if taken is not None and address.overlaps(taken):
            where = f"[{other.section.header}] in line {other.section.line_of('listen')}"
            yield key, f"{address.text} is taken by {where}: {taken.text}"
            return


def target_conflicts(key: str, section: SectionValues, names: Names) -> Iterator[Conflict]:
    """Yield a problem if the upstream that a key names does not exist, or has no URL to connect to."""
    wanted = section[key]
    if wanted is None:
        return
    if (text := target_fault(wanted, names)) is not None:
        yield key, text


def target_fault(wanted: str, names: Names) -> str | None:
    """Return why sessions cannot be sent to an upstream of this name; None if they can."""
    if wanted not in names.upstreams:
        return no_upstream(wanted, names)
    return f"[upstream {wanted}] has no url to connect to" if wanted in names.templates else None


def template_conflicts(key: str, section: SectionValues, names: Names) -> Iterator[Conflict]:
    """Yield a problem if the upstream that a key names as the template of hosts does not exist."""
    wanted = section[key]
    if wanted is not None and wanted not in names.upstreams:
        yield key, no_upstream(wanted, names)


def no_upstream(wanted: str, names: Names) -> str:
    """Return the text of the problem that there is no upstream of this name."""
    known = tuple(names.upstreams)
    there = f"there is {', '.join(known[:8])}" if known else "there is none"
    return f"no [upstream {wanted}]: {there}{', ...' if len(known) > 8 else ''}"


def loop_conflicts(upstream: SectionValues, listeners: Sequence[SectionValues]) -> Iterator[Conflict]:
    """Yield a problem if an upstream is one of the listeners.  Names are not looked up."""
    for url in upstream["url"] or ():
        if (listener := _own_listener(url, listeners)) is not None:
            yield "url", f"is the proxy's own [{listener.section.header}]: the proxy would connect to itself"
            return


def _own_listener(url: UpstreamURL, listeners: Sequence[SectionValues]) -> SectionValues | None:
    """Return the listener that a connection to this URL reaches, or None."""
    for listener in listeners:
        address: ListenAddress | None = listener["listen"]
        if address is not None and address.port == url.port and any(map(address.accepts, _reached(url.host))):
            # A wildcard listener accepts every address of this machine, but only loopback is known here.
            if address.ip is not None and address.ip.is_unspecified and not _is_own(url.host):
                continue
            return listener
    return None


def _is_own(host: str) -> bool:
    return any(address.is_loopback for address in _reached(host))


def _reached(host: str) -> list[IP]:
    """Return the addresses that a connection to this host reaches, or nothing if that takes a look-up."""
    found = []
    for text in _LOCAL.get(host, (host,)):
        try:
            found.append(ip_address(text))
        except ValueError:
            continue
    return found
