"""The section [admin] with an address for people, who log in with a name and a password, and its client."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha1
from types import MappingProxyType
from typing import Any

from tests.support.certificates import Certificate
from tests.support.programs import Program, until
from tests.support.websocket_peers import trusting_context

BASE = "/api/v1"
FREE = "127.0.0.1:0"
"""An address with a port that the kernel chooses."""
OPERATOR, VIEWER, OTHER = "olga:o-secret", "vera:v-secret", "otto:x-secret"
"""Logins of an operator, of a viewer, and of a user who may do neither."""
PASSWORDS = "".join(
    f"{name}:{{SHA}}{b64encode(sha1(password.encode()).digest()).decode()}\n"
    for name, _, password in (login.partition(":") for login in (OPERATOR, VIEWER, OTHER))
)
"""The content of the file ``people``."""


def section(tls: Certificate | None = None, **keys: object) -> str:
    """Return [admin] with a free port for people and one for probes, and the section of its authenticator."""
    files = {} if tls is None else {"certificate": tls.path, "private_key": tls.key_path}
    given = {
        "listen": FREE,
        "probe_listen": FREE,
        "authenticator": "people",
        "viewers": "vera",
        "operators": "olga",
        **files,
        **keys,
    }
    lines = "".join(f"{key} = {value}\n" for key, value in given.items() if value is not None)
    return f"[admin]\n{lines}[authenticator people]\ntype = htpasswd\nfile = people\n"


def port_of(proxy: Program, key: str = "listen") -> int:
    """Return the port of an address of [admin], as soon as the log of a proxy has it."""
    pattern = rf"admin\]? {key} listening on 127\.0\.0\.1:(\d+)"
    found = until(lambda: re.search(pattern, proxy.log()), f"{key} is open")
    return int(found[1])


def basic(login: str) -> str:
    """Return the value of Authorization for NAME:PASSWORD."""
    return f"Basic {b64encode(login.encode()).decode()}"


@dataclass(frozen=True)
class AdminAnswer:
    """An answer of the admin service."""

    status: int
    fields: Mapping[str, str]
    body: str

    @property
    def value(self) -> Any:
        """The value of the JSON text."""
        return json.loads(self.body)


@dataclass(frozen=True)
class AdminClient:
    """A client of an address of the admin service."""

    port: int
    login: str | None = None
    tls: bool = False
    name: str = "127.0.0.1"
    """The host in the Host field."""
    source: str = "127.0.0.1"
    """The client's address: failed logins are throttled by it."""

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> AdminAnswer:
        """Return the answer to a request on a connection of its own; it has the field of actions."""
        sent = {"Host": f"{self.name}:{self.port}", "X-Esxiproxy": "1", **fields}
        if self.login is not None:
            sent["Authorization"] = basic(self.login)
        if body is not None:
            sent["Content-Type"] = "application/json"
        text = None if body is None else json.dumps(body)
        with closing(self._connection()) as connection:
            connection.request(method, target, text, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            return AdminAnswer(answer.status, dict(answer.getheaders()), answer.read().decode())

    def get(self, path: str) -> Any:
        """Return the value of a GET under the path of the API, which has to succeed."""
        answer = self.ask("GET", BASE + path)
        assert answer.status == 200, answer
        return answer.value

    def _connection(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, 30, (self.source, 0))
        context: ssl.SSLContext = trusting_context()
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(self.source, 0), context=context
        )
