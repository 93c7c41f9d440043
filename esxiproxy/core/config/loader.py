"""The loader of the configuration file, which checks the whole file before anything is bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from types import MappingProxyType
from typing import Any

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config import ini
from esxiproxy.core.config.access import access_conflicts, access_of
from esxiproxy.core.config.admin import admin_conflicts, admin_of, admin_warnings, manhole_conflicts
from esxiproxy.core.config.builders import connection_limits_of, listener_of, proxy_of, upstream_of
from esxiproxy.core.config.consistency import (
    Conflict,
    address_conflicts,
    connection_warnings,
    listener_conflicts,
    listener_warnings,
    loop_conflicts,
    master_conflicts,
    provider_conflicts,
    proxy_conflicts,
    proxy_warnings,
    state_warnings,
    target_conflicts,
    type_warnings,
    upstream_conflicts,
)
from esxiproxy.core.config.errors import BadValue, ConfigError, Problem, Severity, in_order
from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.model import Admin, Config, Http, Lines, Listener, ListenerTLS, TLSVersion
from esxiproxy.core.config.plugin_type import (
    PLUGIN_KINDS,
    Names,
    PluginSection,
    SectionType,
    Types,
    find_type,
    installed,
    plugin_keys,
    without_section,
)
from esxiproxy.core.config.schema import KEYS, RENAMED, keys_of
from esxiproxy.core.config.section import SectionValues, find_key
from esxiproxy.core.config.tickets import issued_conflicts, issued_warnings, ticket_conflicts
from esxiproxy.core.config.values import name
from esxiproxy.core.config.vsphere import VSphere, vsphere_conflicts, vsphere_of, vsphere_warnings
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits

__all__ = [
    "Config",
    "ConfigError",
    "Http",
    "Listener",
    "ListenerTLS",
    "Problem",
    "SessionLimits",
    "Severity",
    "TLSVersion",
    "Upstream",
    "load",
]

_LARGEST_FILE = 16 << 20


def load(
    path: str | PathLike[str], content: bytes | None = None, types: Types = MappingProxyType({})
) -> Config:
    """Return the configuration in a file.  Raise ConfigError with all of its problems.

    ``content`` is the content of the file if it was read before.  ``types`` has the installed types of
    routers and authenticators.
    """
    file = fspath(path)
    if content is None:
        content = _content(file)
    sections, problems = ini.parse(content, file)
    check = _Check(file, problems, types)
    config = check.config(sections)
    if any(problem.is_error for problem in check.problems):
        raise ConfigError(check.problems)
    return replace(config, content=content, warnings=in_order(check.problems))


def _content(file: str) -> bytes:
    try:
        return read_file(Path(file), _LARGEST_FILE)
    except FileNotFoundError:
        text = "no such file"
    except IsADirectoryError:
        text = "is a folder"
    except FileTooLarge:
        text = "more than 16 MiB: this is no configuration"
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
    raise ConfigError([Problem(file, 1, None, None, text)])


class _Check:
    """A check of one file that collects its problems and builds its sections."""

    def __init__(self, file: str, problems: Sequence[Problem], types: Types) -> None:
        self.problems = list(problems)
        self._file = file
        self._folder = Path(file).parent.absolute()
        self._types = types

    def config(self, sections: Sequence[ini.IniSection]) -> Config:
        """Check the sections and return the configuration without those that have problems."""
        self._headers = [section.header for section in sections]
        given = [found for section in sections if (found := self._given(section))]
        listeners = [found for found in given if found.kind is SectionKind.LISTENER]
        upstreams = [found for found in given if found.kind is SectionKind.UPSTREAM]
        used = frozenset(name for found in given for name in found.templates)
        templates = {found.name for found in upstreams if found.name in used and "url" not in found.present}
        names = Names(
            MappingProxyType({found.name: upstream_of(found) for found in upstreams}),
            frozenset(templates),
            _names_of(SectionKind.VSPHERE.value, given),
            _names_of(SectionKind.ACCESS.value, given),
        )
        plugins = {kind: self._plugins(kind, given, names) for kind in PLUGIN_KINDS}
        for authenticator in plugins[SectionKind.AUTHENTICATOR].values():
            known = plugins[SectionKind.AUTHENTICATOR]
            self._report_all(authenticator.settings, provider_conflicts(authenticator.settings, known))
        named: dict[str, Sequence[tuple[PluginSection, ...]]] = {}
        for index, found in enumerate(listeners):
            self._report_all(found, listener_conflicts(found))
            self._report_all(found, address_conflicts(found, listeners[:index]))
            self._report_all(found, target_conflicts("upstream", found, names))
            self._report_all(found, listener_warnings(found), Severity.WARNING)
            named[found.name] = tuple(self._named(found, plugins, names))
            self._report_all(found, ticket_conflicts(found, named[found.name][0]))
            self._report_all(found, issued_conflicts(found, named[found.name][0]))
            self._report_all(found, type_warnings(found, named[found.name]), Severity.WARNING)
        for found in upstreams:
            self._report_all(found, upstream_conflicts(found, found.name in used))
            self._report_all(found, loop_conflicts(found, listeners))
        # A header that cannot be parsed may be that of a listener.
        readable = len(given) == len(sections) and all(problem.section for problem in self.problems)
        if readable and not listeners:
            text = "no listener: without a [listener NAME] section there is nothing to bind"
            self.problems.append(Problem(self._file, 1, None, None, text))
        proxy = next((found for found in given if found.kind is SectionKind.PROXY), None)
        whole: Mapping[str, Any] = {}
        if proxy is not None:
            has_portal = any(found["http"] is Http.PORTAL for found in listeners)
            self._report_all(proxy, proxy_conflicts(proxy, has_portal))
            self._report_all(proxy, proxy_warnings(proxy), Severity.WARNING)
            whole = proxy_of(proxy, self._folder)
        for router in plugins[SectionKind.ROUTER].values():
            self._report_all(router.settings, issued_warnings(router, listeners), Severity.WARNING)
            self._report_all(router.settings, state_warnings(router, whole.get("state")), Severity.WARNING)
        admin = next((found for found in given if found.kind is SectionKind.ADMIN), None)
        vspheres = self._vspheres(given)
        if vspheres and proxy is not None:
            self._report_all(proxy, master_conflicts(proxy))
        rules = [found for found in given if found.kind is SectionKind.ACCESS]
        for found in rules:
            self._report_all(found, access_conflicts(found, names))
        limits = whole.get("limits", SessionLimits())
        connection_limits = whole.get("connection_limits", ConnectionLimits())
        if any(found["http"] is Http.FORWARD for found in listeners):
            for found in given:
                own = connection_limits.overridden_by(connection_limits_of(found))
                self._report_all(found, connection_warnings(found, own), Severity.WARNING)
        return Config(
            source=Path(self._file),
            listeners=tuple(
                listener_of(found, limits, connection_limits, *named[found.name])
                for found in listeners
                if found["listen"]
            ),
            upstreams=names.upstreams,
            routers=plugins[SectionKind.ROUTER],
            authenticators=plugins[SectionKind.AUTHENTICATOR],
            admin=None if admin is None else self._admin(admin, listeners, plugins, names, whole),
            vspheres=vspheres,
            access=MappingProxyType({found.name: access_of(found) for found in rules if found.is_complete}),
            lines=_lines(sections),
            **whole,
        )

    def _vspheres(self, given: Sequence[SectionValues]) -> Mapping[str, VSphere]:
        """Check the sections [vsphere NAME] and return their values by name."""
        sections = [found for found in given if found.kind is SectionKind.VSPHERE]
        for found in sections:
            self._report_all(found, vsphere_conflicts(found))
            self._report_all(found, vsphere_warnings(found), Severity.WARNING)
        return MappingProxyType({found.name: vsphere_of(found) for found in sections if found.is_complete})

    def _admin(
        self,
        admin: SectionValues,
        listeners: Sequence[SectionValues],
        plugins: Mapping[SectionKind, Mapping[str, PluginSection]],
        names: Names,
        proxy: Mapping[str, Any],
    ) -> Admin:
        """Check the section [admin] and return its value."""
        self._report_all(admin, admin_conflicts(admin))
        for key in ("listen", "probe_listen"):
            self._report_all(admin, address_conflicts(admin, listeners, key))
        kind = SectionKind.AUTHENTICATOR
        wanted = admin[kind.value] if admin.has(kind.value) and not admin.is_invalid(kind.value) else ()
        found = (self._find(admin, kind, name, plugins[kind], names) for name in wanted)
        value = admin_of(admin, self._folder, tuple(each for each in found if each is not None))
        self._report_all(admin, admin_warnings(admin, value.authenticators), Severity.WARNING)
        if proxy.get("manhole") is not None:
            self._report_all(admin, manhole_conflicts(value))
        return value

    def _given(self, section: ini.IniSection) -> SectionValues | None:
        """Return the values of a section, or None if there is no such kind of section."""
        kind = next((kind for kind in SectionKind if kind.value == section.kind), None)
        if kind is None:
            self._report(section, None, _unknown_section(section))
            return None
        try:
            if kind.has_name:
                name(section.name)
            elif section.name:
                raise BadValue(f"takes no name: write {kind.header}")
        except BadValue as error:
            self._report(section, None, str(error) if section.name else f"has no name: write {kind.header}")
        keys = self._keys_of(section, kind)
        return SectionValues(section, kind, *self._values(section, kind, keys), keys or {})

    def _keys_of(self, section: ini.IniSection, kind: SectionKind) -> Mapping[str, Key] | None:
        """Return the keys that a section may have; None if they depend on a type that is not known."""
        if kind not in PLUGIN_KINDS:
            return keys_of(kind)
        entry = section.entries.get("type")
        if entry is None or not entry.text:
            if "type" not in section.faulty:
                self._report(section, "type", f"missing: {installed(self._types, kind)}")
            return None
        try:
            found = find_type(self._types, kind, entry.text)
        except BadValue as error:
            self._report(section, "type", str(error))
            return None
        return plugin_keys(found)

    def _values(
        self, section: ini.IniSection, kind: SectionKind, keys: Mapping[str, Key] | None
    ) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the values of a section, and the keys that it has or probably means."""
        values: dict[str, Any] = {}
        present = {*section.entries, *section.faulty}
        if keys is None:
            return values, frozenset(present)
        for written, entry in section.entries.items():
            key = self._current_name(section, written) if RENAMED.get(written) in keys else written
            present.add(key)
            known = find_key(keys, key)
            if known is None:
                meant, text = _unknown_key(key, kind, keys)
                present.add(meant)
                self._report(section, key, text)
            elif not entry.text:
                self._report(section, written, "has no value")
            else:
                try:
                    values[key] = known.type.parse(entry.text, self._folder)
                except BadValue as error:
                    self._report(section, written, str(error))
        for required in keys.values():
            if required.required and required.name not in present:
                self._report(section, required.name, "missing")
        return values, frozenset(present)

    def _plugins(
        self, kind: SectionKind, given: Sequence[SectionValues], names: Names
    ) -> Mapping[str, PluginSection]:
        """Return the routers or the authenticators of a file by name, and report their mistakes."""
        found = {}
        for settings in given:
            if settings.kind is kind and "type" in settings.values:
                section_type = find_type(self._types, kind, settings["type"])
                if settings.is_complete:
                    self._report_all(settings, _conflicts(section_type, settings, names))
                found[settings.name] = PluginSection(settings.section.header, section_type, settings)
        return MappingProxyType(found)

    def _named(
        self,
        listener: SectionValues,
        plugins: Mapping[SectionKind, Mapping[str, PluginSection]],
        names: Names,
    ) -> Iterator[tuple[PluginSection, ...]]:
        """Yield the routers of a listener, and then its authenticators."""
        for kind in PLUGIN_KINDS:
            wanted = () if listener.is_invalid(kind.value) else listener[kind.value] or ("static",)
            found = (self._find(listener, kind, name, plugins[kind], names) for name in wanted)
            yield tuple(plugin for plugin in found if plugin is not None)

    def _find(
        self,
        listener: SectionValues,
        kind: SectionKind,
        name: str,
        sections: Mapping[str, PluginSection],
        names: Names,
    ) -> PluginSection | None:
        """Return the router or authenticator that a listener names: a section, or a type without settings."""
        if name in sections:
            return sections[name]
        if any(header == f"{kind.value} {name}" for header in self._headers):
            return None  # a section whose mistakes are reported there
        try:
            section_type = find_type(self._types, kind, name)
            settings = without_section(section_type, kind, listener, self._folder)
        except BadValue as error:
            if listener.has(kind.value):
                self._report(listener.section, kind.value, f"no [{kind.value} {name}]: {error}")
            return None
        if listener.has(kind.value):
            conflicts = _conflicts(section_type, settings, names)
            self._report_all(listener, [(kind.value, f"{name}: {text}") for _, text in conflicts])
        return PluginSection(settings.section.header, section_type, settings)

    def _current_name(self, section: ini.IniSection, old: str) -> str:
        """Return the present name of a renamed key, and report the old one."""
        new = RENAMED[old]
        if new in section.entries:
            self._report(section, old, f"given twice: this is the old name of {new}, remove it")
        else:
            text = f"old name of {new}: write {new}, the next version does not know {old}"
            self._report(section, old, text, Severity.WARNING)
        return new

    def _report_all(
        self, found: SectionValues, conflicts: Iterable[Conflict], severity: Severity = Severity.ERROR
    ) -> None:
        for key, text in conflicts:
            self._report(found.section, key, text, severity)

    def _report(
        self, section: ini.IniSection, key: str | None, text: str, severity: Severity = Severity.ERROR
    ) -> None:
        line = section.line_of(key)
        self.problems.append(Problem(self._file, line, section.header, key, text, severity))


def _conflicts(section_type: SectionType, settings: SectionValues, names: Names) -> Sequence[Conflict]:
    """Return the problems that a type finds in a section; an exception of the type is one of them."""
    try:
        return [(str(key), str(text)) for key, text in section_type.conflicts(settings, names)]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [("type", f"the type {section_type.name} failed to check the section: {reason}")]


def _names_of(kind: str, given: Sequence[SectionValues]) -> frozenset[str]:
    return frozenset(found.name for found in given if found.kind.value == kind)


def _lines(sections: Sequence[ini.IniSection]) -> Lines:
    lines: dict[tuple[str, str | None], int] = {}
    for section in sections:
        lines[section.header, None] = section.line
        for key, entry in section.entries.items():
            lines[section.header, key] = entry.line
            if key in RENAMED:
                lines.setdefault((section.header, RENAMED[key]), entry.line)
    return MappingProxyType(lines)


def _unknown_section(section: ini.IniSection) -> str:
    close = get_close_matches(section.kind.lower(), [kind.value for kind in SectionKind], n=1)
    if not close:
        headers = [kind.header for kind in SectionKind]
        return f"unknown section: there are {', '.join(headers[:-1])} and {headers[-1]}"
    meant = SectionKind(close[0])
    named = meant.has_name and section.name
    return f"unknown section: did you mean {f'[{meant.value} {section.name}]' if named else meant.header}?"


def _unknown_key(key: str, kind: SectionKind, keys: Mapping[str, Key]) -> tuple[str, str]:
    """Return the key that was probably meant, or an empty text, and the message."""
    plain = key.lower().replace("-", "_")
    elsewhere = [known for known in KEYS if known.name == plain]
    single = [known.name for known in keys.values() if not known.is_family]
    close = [plain] if plain in single else [] if elsewhere else get_close_matches(plain, single, n=1)
    if close:
        return close[0], f"unknown key: did you mean {close[0]}?"
    if elsewhere:
        places = " and ".join(section.header for section in elsewhere[0].sections)
        return "", f"not a key of {kind.header}: it belongs in {places}"
    return "", f"unknown key in {kind.header}"
