"""Timeouts of a configuration of which one keeps another from ever taking effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from esxiproxy.core.config.model import Config, Listener
from esxiproxy.doctor.configuration.pairs import Pair, limit_warning, pairs_of
from esxiproxy.doctor.configuration.result import CheckResult


def timeout_findings(config: Config) -> list[CheckResult]:
    """Return the findings on timeouts, each once."""
    found = [result for pair in pairs_of(config) for result in _of_pair(pair)]
    found += [result for listener in config.listeners for result in _of_plugins(listener)]
    return list(dict.fromkeys(found))


def _of_pair(pair: Pair) -> Iterator[CheckResult]:
    limits = pair.limits
    whole, connect = limits.upstream_handshake_timeout, limits.connect_timeout
    if connect >= whole:
        yield limit_warning(
            pair.section_of("connect_timeout", "upstream_handshake_timeout"),
            "connect_timeout",
            f"{connect:g} s never pass before upstream_handshake_timeout, {whole:g} s, which includes it: "
            "lower connect_timeout, or raise the other",
        )
    idle, lifetime = limits.idle_timeout, limits.max_lifetime
    if idle is not None and lifetime is not None and idle >= lifetime:
        yield limit_warning(
            pair.section_of("idle_timeout", "max_lifetime"),
            "idle_timeout",
            f"{idle:g} s never pass before max_lifetime, {lifetime:g} s: lower idle_timeout or remove it",
        )
    if pair.upstream is None:
        return
    last = pair.upstream.failover_delay * len(pair.upstream.further)
    if last >= whole:
        yield limit_warning(
            f"upstream {pair.upstream.name}",
            "failover_delay",
            f"the last of {len(pair.upstream.further) + 1} addresses is tried after {last:g} s without an "
            f"answer, and upstream_handshake_timeout ends all attempts after {whole:g} s: lower "
            "failover_delay",
        )


def _of_plugins(listener: Listener) -> Iterator[CheckResult]:
    """Yield a warning for each service whose time to answer is longer than that of the whole decision."""
    most = listener.limits.decision_timeout
    for plugin in (*listener.routers, *listener.authenticators):
        own: Any = plugin.settings["timeout"] if "timeout" in plugin.settings.keys else None
        if isinstance(own, float | int) and own >= most:
            yield limit_warning(
                plugin.section,
                "timeout",
                f"{own:g} s never pass before decision_timeout, {most:g} s: lower timeout, or raise "
                f"decision_timeout in [listener {listener.name}]",
            )
