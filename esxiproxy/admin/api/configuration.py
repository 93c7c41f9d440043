"""The operation ``configuration``: the file in force, without comments and without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from esxiproxy.admin.api.reload import shown_problem
from esxiproxy.admin.call import Call
from esxiproxy.admin.live import Live
from esxiproxy.core.config import ini
from esxiproxy.core.config.key import Key, SectionKind
from esxiproxy.core.config.model import Config
from esxiproxy.core.config.plugin_type import PLUGIN_KINDS
from esxiproxy.core.config.schema import keys_of
from esxiproxy.core.config.section import find_key
from esxiproxy.core.redaction import HIDDEN, is_secret, redact_text

_SECRET_KEY = re.compile(r"passw|passphrase|passcode|secret|token|credential|ticket|api_?key|(?:\A|_)psk\Z")
_OWN_KINDS = {kind.value for kind in SectionKind if kind not in PLUGIN_KINDS}
_PUBLIC_KEYS = {
    *("signing_key", "reauthenticate", "reauthenticate_grace", "consume_cookies", "tickets", "tickets_allow"),
}
"""Keys of this package whose names only look like those of secrets."""
_URL_USER = re.compile(r"(//)[^/?#\s,]*@")


class ConfigurationReads:
    """Shows the configuration in force."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._shown: tuple[Config, dict[str, Any]] | None = None

    async def configuration(self, call: Call) -> dict[str, Any]:
        """Return the sections in their order, with the keys that the file has."""
        config = self._live.control.config
        if self._shown is None or self._shown[0] is not config:
            self._shown = config, shown_configuration(config)
        return self._shown[1]


def shown_configuration(config: Config) -> dict[str, Any]:
    """Return a configuration as the API returns it."""
    sections, _problems = ini.parse(config.content, str(config.source))
    return {
        "path": str(config.source.absolute()),
        "sections": [
            {
                "header": section.header,
                "keys": {
                    name: _shown_value(section, name, entry.text, find_key(_keys(section, config), name))
                    for name, entry in section.entries.items()
                },
            }
            for section in sections
        ],
        "warnings": [shown_problem(problem) for problem in config.warnings],
    }


def _keys(section: ini.IniSection, config: Config) -> Mapping[str, Key]:
    """Return the keys that a section may have, as far as they are known."""
    kind = next((kind for kind in SectionKind if kind.value == section.kind), None)
    if kind is None:
        return {}
    if kind not in PLUGIN_KINDS:
        return keys_of(kind)
    plugins = config.routers if kind is SectionKind.ROUTER else config.authenticators
    found = plugins.get(section.name)
    return {} if found is None else found.settings.keys


def _shown_value(section: ini.IniSection, name: str, text: str, key: Key | None) -> str:
    """Return a value without secrets.  The path of a file that holds a secret is none."""
    is_path = key is not None and ("file" in key.type.name or "folder" in key.type.name)
    if not is_path and _is_secret(section, name):
        return HIDDEN
    return redact_text(_URL_USER.sub(rf"\1{HIDDEN}@", text))


def _is_secret(section: ini.IniSection, name: str) -> bool:
    """Return whether the name of a key says that its value is a secret, in doubt for keys of plugins."""
    if name in _PUBLIC_KEYS:
        return False
    is_plugin = section.kind not in _OWN_KINDS
    return bool(_SECRET_KEY.search(name.lower())) or (is_plugin and is_secret(name))
