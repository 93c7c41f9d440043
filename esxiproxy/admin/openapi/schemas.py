"""The JSON schemas of what the API takes and returns."""

from __future__ import annotations

from esxiproxy.admin.openapi.schema_builders import (
    Schema,
    count,
    flag,
    given_with,
    listed,
    maybe,
    number,
    page,
    record,
    reference,
    text,
)

MAX_NAME = 256
"""Characters of a name in a request: of a principal, a host, a section or a machine."""
MAX_DRAIN_NAME = 255
"""Characters of the name of a drained object, and of its machine."""
ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
"""The pattern of a text without control characters and line breaks."""
MAX_REASON = 500
"""Characters of a reason.  A Close frame carries at most 123 bytes of it."""
MAX_PAGE = 500
"""Rows of one page of a list."""
MAX_FILTER = 200
"""Characters of a filter."""


_WHERE = {
    "machine": text("The machine of the proxy."),
    "worker": text("The process of the proxy: its number on the machine, or `admin`."),
}
_TIME = "seconds since 1970"
_REASON = text("Why. It stands in the audit log, and users see the first 123 bytes of it.", MAX_REASON)
_DRAIN_KIND: Schema = {
    "type": "string",
    "enum": ["proxy", "listener", "upstream", "host"],
    "description": "What is drained.",
}
_LINE = {"pattern": ONE_LINE}
_DRAIN_NAME = text(
    "Name of the listener, the upstream or the host; absent for the whole proxy.", MAX_DRAIN_NAME, **_LINE
)
_MACHINE = text(
    "The machine whose proxy or listener is meant; by default the one that is asked.", MAX_DRAIN_NAME, **_LINE
)
_DRAIN_SUBJECT = {
    "allOf": [
        given_with("kind", "proxy", without=("name",)),
        given_with("kind", "listener", needs="name"),
        given_with("kind", "upstream", "host", needs="name", without=("machine",)),
    ]
}
"""A listener, an upstream or a host has a name; an upstream or a host is drained for all machines."""

SCHEMAS: dict[str, Schema] = {
    "Error": record({"error": text("What failed, why, and what to do.")}),
    "Status": record(
        {
            "version": text("Version of the proxy."),
            "user": text("Who asks: a principal, or the user id on the unix socket."),
            "role": {
                "type": "string",
                "enum": ["viewer", "operator"],
                "description": "What the user may do: see, or see and act.",
            },
            "machine": text("Machine that answers."),
            "now": number(f"Time of the answer, {_TIME}."),
            "started": number(f"Start of the proxy on this machine, {_TIME}."),
            "ready": flag("Whether new consoles are admitted on this machine."),
            "reasons": listed(text("A sentence."), "Why the machine is not ready."),
            "draining": flag("Whether the whole proxy on this machine is drained."),
            "drains": count("Number of drains on all machines."),
            "sessions": count("Open consoles of all machines."),
            "opened": count("Consoles opened by the processes that run."),
            "failed": count("Sessions that ended with an error, of the processes that run."),
            "rate_up": number("Bytes a second from clients, of all consoles."),
            "rate_down": number("Bytes a second to clients, of all consoles."),
            "round_trip": maybe(number("Median round trip to clients in seconds.")),
            "workers": count("Processes of all machines that serve consoles."),
            "machines": listed(text("Name of a machine."), "Machines that share the state."),
        }
    ),
    "Session": record(
        {
            "id": text("Id of the session, as in the log."),
            "principal": text("Name of the user."),
            "authenticator": text("Section that knows the user."),
            "client": text("Address of the client."),
            "listener": text("Listener."),
            "upstream": text("Section of the upstream."),
            "host": text("Name of the ESXi host."),
            "console": text("Id or name of the virtual machine, if a router knows it."),
            "console_name": text("Name of the virtual machine for people, or else the same as `console`."),
            "link": text("Id of the link that opened the session, if any."),
            "since": number(f"Begin of the session, {_TIME}."),
            "age": number("Seconds since the begin."),
            "idle": maybe(number("Seconds without data, null while it is not measured.")),
            "bytes_up": maybe(count("Bytes from the client, null while they are not measured.")),
            "bytes_down": maybe(count("Bytes to the client, null while they are not measured.")),
            "rate_up": maybe(number("Bytes a second from the client.")),
            "rate_down": maybe(number("Bytes a second to the client.")),
            "round_trip": maybe(number("Seconds between the last ping to the client and its pong.")),
            "state": {
                "type": "string",
                "enum": ["open", "stalled", "draining"],
                "description": "`stalled`: a peer takes no data; `draining`: a drain covers the session.",
            },
            **_WHERE,
        }
    ),
    "SessionPage": page("Session", "sessions"),
    "Host": record(
        {
            "host": text("Name of the host."),
            "address": text("Address, if it is written in the configuration."),
            "upstream": text("Section of the upstream, or of the template."),
            "router": text("Section of the router that knows the host, empty for an upstream."),
            "sessions": count("Open consoles."),
            "connections": maybe(count("Connections of all machines, null if it has no connection.")),
            "limit": maybe(count("Value of max_connections, null if it is off.")),
            "health": {
                "type": "string",
                "enum": ["up", "down", "unknown"],
                "description": "Result of the health checks; `unknown` without one.",
            },
            "drained": flag("Whether the host or its upstream is drained."),
            "failures": count("Failures of the host among the last 1,000."),
            "last_failure": maybe(text("Sentence about the last failure.")),
        }
    ),
    "HostPage": page("Host", "hosts"),
    "Upstream": record(
        {
            "name": text("Name of the section."),
            "addresses": listed(text("An address."), "Its addresses; empty for a template."),
            "secure": flag("Whether TLS is used."),
            "verify": text("How the certificate is verified."),
            "health": {"type": "string", "enum": ["up", "down", "unknown"]},
            "sessions": count("Open consoles."),
            "connections": maybe(
                count("Connections of all machines to its addresses, null for a template and while unknown.")
            ),
            "limit": maybe(count("Value of max_connections for each address, null if it is off.")),
            "drained": flag("Whether it is drained."),
            "failures": count("Failures among the last 1,000."),
            "last_failure": maybe(text("Sentence about the last failure.")),
        }
    ),
    "Upstreams": record({"upstreams": listed("Upstream")}),
    "Certificate": record(
        {
            "subject": text("Subject of the certificate."),
            "names": listed(text("A name."), "Names for which it is valid."),
            "expires": number(f"End of its validity, {_TIME}."),
            "days": {"type": "integer", "description": "Days left, negative after the end."},
            "sha256": text("Thumbprint."),
        }
    ),
    "Listener": record(
        {
            "name": text("Name of the section."),
            "address": text("Address in the configuration."),
            "routers": listed(text("A section.")),
            "authenticators": listed(text("A section.")),
            "http": text("What plain HTTP gets: refuse or forward."),
            "public_url": maybe(text("URL for clients.")),
            "certificate": {"anyOf": [reference("Certificate"), {"type": "null"}]},
            "sessions": count("Open consoles."),
            "limit": maybe(count("Value of max_sessions, null if it is off.")),
            "drained": flag("Whether it is drained on this machine."),
        }
    ),
    "Listeners": record({"listeners": listed("Listener")}),
    "Worker": record(
        {
            **_WHERE,
            "instance": text("Id of the process in the state."),
            "pid": count("Process id."),
            "generation": count("Number of the reload with which it has started; 0 for the start."),
            "version": text("Version of the proxy."),
            "started": number(f"Start of the process, {_TIME}."),
            "sessions": count("Open consoles."),
            "accepting": flag("Whether it accepts connections; false while it retires or drains."),
            "lag": maybe(number("Longest delay of its event loop in the last seconds, in seconds.")),
        }
    ),
    "Workers": record({"workers": listed("Worker")}),
    "Failure": record(
        {
            "time": number(f"End of the session, {_TIME}."),
            "session": text("Id of the session."),
            "error": text("Name of the error."),
            "detail": text("Sentence about it."),
            "help": text("What to do."),
            "status": count("HTTP status that the client got."),
            "close_code": maybe(count("Close code that the client got.")),
            "client": text("Address of the client."),
            "principal": text("Name of the user."),
            "listener": text("Listener."),
            "upstream": text("Section of the upstream."),
            "host": text("Name of the host."),
            **_WHERE,
        }
    ),
    "FailurePage": page("Failure", "failures"),
    "Drain": record(
        {
            "kind": _DRAIN_KIND,
            "name": text("What is drained; empty for the whole proxy."),
            "machine": text("Machine of the listener or the proxy; empty if it holds for all."),
            "since": number(f"When it began, {_TIME}."),
            "end": maybe(number(f"When running consoles are closed, {_TIME}; null if they are not.")),
            "by": text("Who has asked for it."),
            "reason": text("Why."),
            "sessions": count("Consoles that still run there."),
        }
    ),
    "Drains": record({"drains": listed("Drain")}),
    "DrainRequest": record(
        {
            "kind": _DRAIN_KIND,
            "name": _DRAIN_NAME,
            "machine": _MACHINE,
            "end_after": number(
                "Seconds after which running consoles are closed with code 1001.", maximum=2592000
            ),
            "reason": {**_REASON, **_LINE},
        },
        ("name", "machine", "end_after"),
        examples=[{"kind": "host", "name": "esxi1.example.com", "end_after": 600, "reason": "maintenance"}],
        **_DRAIN_SUBJECT,
    ),
    "UndrainRequest": record(
        {"kind": _DRAIN_KIND, "name": _DRAIN_NAME, "machine": _MACHINE, "reason": _REASON},
        ("name", "machine", "reason"),
        examples=[{"kind": "host", "name": "esxi1.example.com"}],
        **_DRAIN_SUBJECT,
    ),
    "KillRequest": record(
        {
            "kind": {
                "type": "string",
                "enum": ["session", "principal", "host", "link"],
                "description": "What selects the sessions.",
            },
            "value": text("Id of the session or link, or name of the principal or host.", MAX_NAME),
            "reason": {**_REASON, **_LINE},
        },
        examples=[{"kind": "principal", "value": "alice", "reason": "the shift has ended"}],
    ),
    "Killed": record({"sessions": count("Sessions that were selected when the command was given.")}),
    "ActionRequest": record(
        {"reason": _REASON}, ("reason",), examples=[{"reason": "the certificate is new"}]
    ),
    "Problem": record(
        {
            "file": text("The file."),
            "line": count("The line."),
            "section": text("The section, empty for the whole file."),
            "key": text("The key, empty for the section."),
            "text": text("What is wrong and what to do."),
            "severity": {"type": "string", "enum": ["error", "warning"]},
        }
    ),
    "Checked": record(
        {"valid": flag("Whether a reload would accept the file."), "problems": listed("Problem")}
    ),
    "Reloaded": record(
        {
            "reloaded": flag("Whether the configuration is in force; if not, everything stays."),
            "problems": listed(text("A line of the log."), "Why it is not."),
        }
    ),
    "Configuration": record(
        {
            "path": text("Path of the file."),
            "sections": listed(
                record(
                    {
                        "header": text("Header without brackets."),
                        "keys": {
                            "type": "object",
                            "additionalProperties": {"type": "string"},
                            "description": "Keys and values as written; secrets are replaced.",
                        },
                    }
                )
            ),
            "warnings": listed("Problem"),
        }
    ),
    "Link": record(
        {
            "id": text("Id of the link."),
            "sessions": count("Open consoles that it has opened."),
            "principals": listed(text("A user.")),
            "host": text("Name of the host."),
            "revoked": flag("Whether it was revoked."),
        }
    ),
    "Links": record({"links": listed("Link", "Links with open consoles, and those that were revoked here.")}),
    "LinkRequest": record(
        {
            "router": text("Name of a router of the type links, without `router`.", MAX_NAME),
            "to": text("HOST[:PORT][/PATH] of the console.", 4096),
            "ttl": number("Seconds until the link expires.", maximum=34560000, exclusiveMinimum=0),
            "reuse": number("Seconds for which it works again after a disconnect.", maximum=34560000),
            "many": flag("Whether it works until it expires."),
            "subject": text("Principal of the session.", MAX_NAME),
            "pins": listed(text("sha256:HEX", 200)) | {"maxItems": 8},
            "net": text("Network of the clients that may use it.", 64),
            "listener": text("The listener, where several name the router.", MAX_NAME),
            "vmrc": flag("Whether it is for VMware Remote Console as well."),
            "vmx": text("With vmrc: path of the machine's file, as in the cfgFile of a ticket.", 1024),
            "reason": _REASON,
        },
        ("ttl", "reuse", "many", "subject", "pins", "net", "listener", "vmrc", "vmx", "reason"),
        allOf=[given_with("many", True, without=("reuse",))],
        examples=[{"router": "links", "to": "esxi1.example.com/ticket/TICKET", "ttl": 600}],
    ),
    "MadeLink": record(
        {
            "url": text("The link, which is a secret of its user."),
            "id": text("Its id, with which it is revoked."),
            "expires": number(f"When it expires, {_TIME}."),
            "field": maybe(text("Cookie or subprotocol that a client has to send as well.")),
            "vmrc": maybe(text("URL for VMware Remote Console, which is a secret, too.")),
        }
    ),
    "RevokeRequest": record(
        {"id": text("Id of the link.", 128, pattern="^[!-~]+$"), "reason": {**_REASON, **_LINE}},
        examples=[{"id": "4b232c13e9cf4fe7e635b99d8539777d", "reason": "it was sent to somebody else"}],
    ),
    "Event": record(
        {
            "event": {
                "type": "string",
                "enum": ["status", "window", "ping", "unavailable"],
                "description": "Kind of the event.",
            },
            "data": text("A JSON object.", contentMediaType="application/json"),
        },
        description="One event of the stream, as an object of its fields.",
    ),
    "History": record(
        {
            "interval": number("Seconds between two points."),
            "points": listed(
                {
                    "type": "array",
                    "items": maybe(number("")),  # readers of OpenAPI do not agree about prefixItems
                    "minItems": 5,
                    "maxItems": 5,
                    "description": "Time, open consoles, bytes a second up and down, round trip in seconds; "
                    "only the last one may be null.",
                },
                "The last hour, the oldest point first.",
            ),
        }
    ),
}
