"""The pairs of a listener and an upstream whose limits apply together, and the sections that set them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from esxiproxy.core.config.model import Config, Listener
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict


@dataclass(frozen=True, slots=True)
class Pair:
    """A listener and an upstream, of which one may be None: [proxy] has the limits of a missing listener."""

    config: Config
    listener: Listener | None
    upstream: Upstream | None

    @property
    def limits(self) -> SessionLimits:
        """The limits of a session of the listener to the upstream."""
        limits = self.config.limits if self.listener is None else self.listener.limits
        return limits if self.upstream is None else limits.overridden_by(self.upstream.overrides)

    @property
    def connection_limits(self) -> ConnectionLimits:
        """The limits on connections of the listener to the upstream."""
        source = self.config if self.listener is None else self.listener
        own = {} if self.upstream is None else self.upstream.connection_limits
        return source.connection_limits.overridden_by(own)

    def section_of(self, *keys: str) -> str:
        """Return the section that sets one of these keys for the pair, [proxy] if none does."""
        sections = []
        if self.upstream is not None:
            sections.append(f"upstream {self.upstream.name}")
        if self.listener is not None:
            sections.append(f"listener {self.listener.name}")
        found = (each for each in sections if any((each, key) in self.config.lines for key in keys))
        return next(found, "proxy")


def pairs_of(config: Config) -> Iterator[Pair]:
    """Yield each listener with the upstream that it names, and each upstream alone.

    Routers may combine others.  Their number would be the product of listeners and upstreams.
    """
    for listener in config.listeners:
        yield Pair(config, listener, config.upstreams.get(listener.upstream or ""))
    for upstream in config.upstreams.values():
        yield Pair(config, None, upstream)


def limit_warning(section: str, key: str, finding: str) -> CheckResult:
    """Return a warning about a limit."""
    return CheckResult(CheckKind.LIMIT, CheckVerdict.WARNING, section, key, "", finding)
