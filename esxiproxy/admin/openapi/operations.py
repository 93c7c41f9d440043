"""The operations of the API, from which requests are routed and checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from esxiproxy.admin.openapi.schema_builders import Schema
from esxiproxy.admin.openapi.schemas import MAX_FILTER, MAX_NAME, MAX_PAGE

BASE = "/api/v1"
"""The path under which all operations are."""


class Role(Enum):
    """The right that an operation needs."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, or in the path if its name stands there in braces."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: ``name`` is its operationId and the name of its handler.

    ``path`` is under ``BASE``.  ``takes`` and ``returns`` are names of schemas; an empty ``takes`` is a
    request without a body.
    """

    name: str
    method: str
    path: str
    summary: str
    returns: str
    takes: str = ""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()

    @property
    def role(self) -> Role:
        """The right that it needs: GET is for viewers, everything else for operators."""
        return Role.VIEWER if self.method == "GET" else Role.OPERATOR


def _window(*columns: str) -> tuple[Parameter, ...]:
    """Return the parameters of a list that can be filtered, sorted and read in pages."""
    return (
        Parameter(
            "filter",
            {"type": "string", "maxLength": MAX_FILTER},
            "Words that a row has to contain, in any of its texts; `column:word` looks into one column.",
        ),
        Parameter("sort", {"type": "string", "enum": list(columns), "default": columns[0]}, "Column."),
        Parameter("order", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}, "Direction."),
        Parameter(
            "offset", {"type": "integer", "minimum": 0, "maximum": 10_000_000, "default": 0}, "Rows to skip."
        ),
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}, "Rows."),
    )


def _exact(name: str, description: str) -> Parameter:
    return Parameter(name, {"type": "string", "minLength": 1, "maxLength": MAX_NAME}, description)


SESSION_COLUMNS = (
    "since",
    "principal",
    "client",
    "listener",
    "upstream",
    "host",
    "console",
    "console_name",
    "idle",
    "bytes_up",
    "bytes_down",
    "rate_up",
    "rate_down",
    "round_trip",
    "machine",
    "worker",
)
HOST_COLUMNS = ("usage", "host", "upstream", "sessions", "connections", "health", "failures")
"""``usage`` is the part of the limit that is in use."""
FAILURE_COLUMNS = ("time", "error", "host", "principal", "client", "listener")

_SESSION_WINDOW = _window(*SESSION_COLUMNS)
_ID = Parameter("id", {"type": "string", "pattern": "^[0-9a-f]{16}$"}, "Id of the session.")
_VIEWS = ("sessions", "hosts", "failures")
_VIEW_COLUMNS = dict.fromkeys((*SESSION_COLUMNS, *HOST_COLUMNS, *FAILURE_COLUMNS))

OPERATIONS: tuple[Operation, ...] = (
    Operation("status", "GET", "/status", "What runs, in a few numbers.", "Status"),
    Operation("history", "GET", "/history", "Sessions, traffic and round trip of the last hour.", "History"),
    Operation(
        "list_sessions",
        "GET",
        "/sessions",
        "Open consoles of all workers and machines.",
        "SessionPage",
        parameters=(
            *_SESSION_WINDOW,
            _exact("principal", "Only sessions of this user, as `alice` or `sso/alice`."),
            _exact("host", "Only sessions on this host."),
            _exact("upstream", "Only sessions with this upstream."),
            _exact("listener", "Only sessions of this listener."),
            _exact("link", "Only sessions that the link with this id has opened."),
        ),
    ),
    Operation("show_session", "GET", "/sessions/{id}", "One open console.", "Session", "", (_ID,), (404,)),
    Operation(
        "kill",
        "POST",
        "/kill",
        "End consoles, with a reason that their users see.",
        "Killed",
        "KillRequest",
        (),
        (404,),
    ),
    Operation("list_upstreams", "GET", "/upstreams", "The upstreams of the configuration.", "Upstreams"),
    Operation(
        "list_hosts",
        "GET",
        "/hosts",
        "Hosts of upstreams, of inventories, and of open consoles.",
        "HostPage",
        parameters=_window(*HOST_COLUMNS),
    ),
    Operation("list_listeners", "GET", "/listeners", "The listeners and their certificates.", "Listeners"),
    Operation("list_workers", "GET", "/workers", "The processes of all machines.", "Workers"),
    Operation(
        "list_failures",
        "GET",
        "/failures",
        "The last 1,000 failures.",
        "FailurePage",
        parameters=_window(*FAILURE_COLUMNS),
    ),
    Operation("list_drains", "GET", "/drains", "What is drained.", "Drains"),
    Operation(
        "drain",
        "POST",
        "/drain",
        "Let a listener, a host, an upstream or the whole proxy take no new consoles.",
        "Drain",
        "DrainRequest",
        (),
        (404,),
    ),
    Operation(
        "undrain",
        "POST",
        "/undrain",
        "Let it take new consoles again.",
        "Drains",
        "UndrainRequest",
        (),
        (404,),
    ),
    Operation("configuration", "GET", "/configuration", "The configuration in force.", "Configuration"),
    Operation("check", "POST", "/check", "Check the configuration file.", "Checked", "ActionRequest"),
    Operation(
        "reload", "POST", "/reload", "Put the configuration file into force.", "Reloaded", "ActionRequest"
    ),
    Operation("list_links", "GET", "/links", "Links with open consoles, and revoked links.", "Links"),
    Operation(
        "make_link", "POST", "/links", "Make a link to a console.", "MadeLink", "LinkRequest", (), (404, 409)
    ),
    Operation(
        "revoke_link",
        "POST",
        "/links/revoke",
        "Revoke a link, and end the consoles that it has opened.",
        "Killed",
        "RevokeRequest",
    ),
)

EVENTS = Operation(
    "events",
    "GET",
    "/events",
    "A stream of server-sent events: `status`, and the changes of one window of a list.",
    "",
    parameters=(
        Parameter("view", {"type": "string", "enum": list(_VIEWS), "default": "sessions"}, "The list."),
        Parameter("filter", {"type": "string", "maxLength": MAX_FILTER}, "As in the list."),
        Parameter("sort", {"type": "string", "enum": list(_VIEW_COLUMNS)}, "A column of the list."),
        Parameter("order", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}, "Direction."),
        Parameter(
            "offset", {"type": "integer", "minimum": 0, "maximum": 10_000_000, "default": 0}, "Rows to skip."
        ),
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}, "Rows."),
    ),
    errors=(404,),
)
"""The stream is no answer of one time, so it has a handler of its own.

Each event ``status`` has what the operation ``status`` returns.  It is sent when anything but the time has
changed.  The event ``ping`` is sent after 15 s without another one.  ``unavailable`` says why nothing can be
read, and any other event that it can be read again.
Each event ``window`` has ``view``, ``total``, ``matching``, ``offset``, ``order`` (the keys of all rows of
the window) and ``changed`` (rows that are new or differ from the event before, by their keys).  The key of a
session is its id, that of a host ``UPSTREAM HOST``, that of a failure its session.
"""
