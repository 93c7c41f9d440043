"""Checks what a configuration refers to: certificates, authorities, plugins, the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from os import PathLike

from esxiproxy.admin import page_library
from esxiproxy.core.access import PatternKind
from esxiproxy.core.config import loader
from esxiproxy.core.config.errors import Severity, in_order
from esxiproxy.core.config.loader import Config, ConfigError, Problem
from esxiproxy.core.config.model import Admin, Http
from esxiproxy.net.tls import client as tls_client
from esxiproxy.net.tls import server as tls_server
from esxiproxy.plugins import installed_types, load_service
from esxiproxy.portal import viewer_library
from esxiproxy.state import factory as state_factory

_ADMIN_PACKAGES = ("jsonschema", "prometheus_client")
"""Packages of the extra ``admin``."""


def load(path: str | PathLike[str], content: bytes | None = None) -> Config:
    """Load a configuration with the installed types of routers and authenticators.  Raises ConfigError.

    With ``content`` the file at ``path`` is not read, and the content is used instead.
    """
    return loader.load(path, content, installed_types())


def load_checked(path: str | PathLike[str], content: bytes | None = None) -> Config:
    """Load a configuration, and check what it refers to.  Raises ConfigError.

    With ``content`` the file at ``path`` is not read, and the content is used instead.
    """
    config = load(path, content)
    problems = [*config.warnings, *problems_of(config)]
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    return replace(config, warnings=in_order(problems))


def problems_of(config: Config) -> Iterator[Problem]:
    """Yield the problems of what a configuration refers to."""
    if (text := state_factory.check(config.state)) is not None:
        yield config.problem("proxy", "state", text)
    if config.admin is not None:
        yield from _admin_problems(config, config.admin)
    for name in config.services:
        yield from _service_problems(config, name)
    for listener in config.listeners:
        section = f"listener {listener.name}"
        if listener.http is Http.PORTAL:
            for library in (page_library, viewer_library):
                if library.missing():
                    text = f"the page lacks files and says so: run {library.HOW}, then reload"
                    yield config.problem(section, "http", text, Severity.WARNING)
        if listener.tls is not None and (text := tls_server.check(listener.tls)) is not None:
            yield config.problem(section, "certificate", text)
    yield from _access_problems(config)
    contexts = tls_client.Contexts()
    for upstream in config.upstreams.values():
        if upstream.secure and (text := tls_client.check(upstream, contexts)) is not None:
            yield config.problem(f"upstream {upstream.name}", "ca", text)
    for vsphere in config.vspheres.values():
        if (text := tls_client.check(vsphere.upstream, contexts)) is not None:
            yield config.problem(f"vsphere {vsphere.name}", "ca", text)


def _access_problems(config: Config) -> Iterator[Problem]:
    """Yield warnings for rules with tags, if no tags are read, and for rules that no router names."""
    has_tags = any(vsphere.tags for vsphere in config.vspheres.values())
    routers = [router for router in config.routers.values() if router.type.name == "vsphere"]
    used = {name for router in routers for name in router.settings["access"] or ()}
    for name, rule in config.access.items():
        if not has_tags and any(pattern.kind is PatternKind.TAG for pattern in rule.what):
            text = "no tags are read, so tag: fits no machine: set tags = yes in [vsphere NAME]"
            yield config.problem(f"access {name}", "what", text, Severity.WARNING)
        if name not in used:
            text = "no router names this rule in access, so it gives no right"
            yield config.problem(f"access {name}", None, text, Severity.WARNING)


def _admin_problems(config: Config, admin: Admin) -> Iterator[Problem]:
    for package in _ADMIN_PACKAGES:
        if find_spec(package) is None:
            missing = f"needs the package {package}: pip install 'esxiproxy[admin]'"
            yield config.problem("admin", None, missing)
    if admin.tls is not None and (text := tls_server.check(admin.tls)) is not None:
        yield config.problem("admin", "certificate", text)
    if admin.listen is not None and page_library.missing():
        text = f"the page lacks its front-end library and says so: run {page_library.HOW}, then reload"
        yield config.problem("admin", "listen", text, Severity.WARNING)


def _service_problems(config: Config, name: str) -> Iterator[Problem]:
    try:
        load_service(name)
    except LookupError as error:
        yield config.problem("proxy", "services", str(error))
    except (ImportError, AttributeError) as error:  # the plugin is installed, but its import fails
        yield config.problem("proxy", "services", f"the plugin {name} cannot be loaded: {error}")
