"""The errors of a Redis server as sentences, and the settings that it should have."""

from __future__ import annotations

from collections.abc import Mapping

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.state.redis_protocol import CallFailed, CallRefused
from esxiproxy.state.redis_replies import RedisError, Reply

_ADVICE = {
    "WRONGPASS": "Redis refuses the user or the password: correct the user in state, or state_password_file",
    "NOAUTH": "Redis demands a password: name its file as state_password_file",
    "NOPERM": "the user lacks permissions: it needs EVALSHA, EVAL, INFO, SELECT, with Sentinels ROLE, and "
    "all keys of state_prefix",
    "READONLY": "the Redis server is a read-only replica: name the primary in state",
    "OOM": "Redis is full: raise its maxmemory",
    "MISCONF": "Redis refuses writes since it cannot save to its disk: see its log",
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "the Redis server is a replica without its primary",
    "BUSY": "Redis is busy with a script of another program",
    "NOREPLICAS": "Redis refuses writes since too few replicas are connected",
    "CLUSTERDOWN": "the Redis cluster is down",
    "MOVED": "the Redis cluster has moved the keys to another server: name that one in state",
}
_WRITES_NOTHING = frozenset(
    ("OOM", "MISCONF", "NOREPLICAS", "READONLY", "LOADING", "MASTERDOWN", "BUSY", "CLUSTERDOWN")
)
"""Errors before a script begins or at its first write; after that Redis lets it go on."""
_NO_PASSWORD_SET = "without any password configured"
_OLDEST = (6, 2)
_MAX_SKEW = 2.0
"""Seconds by which the clock of the server may differ before a warning says so."""


def explained(error: RedisError) -> str:
    """Return an error of the server as a sentence, without the arguments that it may quote."""
    if error.code in _ADVICE:
        return _ADVICE[error.code]
    text = str(error).partition(", with args")[0]
    if _NO_PASSWORD_SET in text:
        return "Redis has no password, but state_password_file has one: remove the key, or set requirepass"
    if "script" in text.lower():
        return f"bug or another version of Redis: the script failed: {text[:200]}"
    return f"Redis answers with an error: {text[:80]}"


def failed_call(error: RedisError) -> StateUnavailable:
    """Return what a call of the script raises to which the server answers with an error."""
    kind = CallRefused if error.code in _WRITES_NOTHING else CallFailed
    return kind(explained(error))


def wrong_schema(found: str, needed: str) -> str:
    """Return what is wrong with a database of another schema version, and which proxies are too old."""
    if not (found.isascii() and found.isdecimal() and len(found) <= 9):
        return "the Redis database was written by another program: use another state_prefix"
    text = f"the Redis database has schema version {found}; this proxy needs {needed}"
    if int(found) > int(needed):
        return f"{text} and is too old: update it, or use another state_prefix"
    return (
        f"{text}: those that have written it are too old: update all of them, and delete the keys of their "
        "state_prefix, or use another one"
    )


def fields_of(reply: Reply) -> Mapping[str, str]:
    """Return the fields in a reply to INFO by their names, none in an error."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, _colon, value in lines}


def check_server(reply: Reply) -> str:
    """Return a warning about the settings of the server, given its reply to INFO.

    Raises StateUnavailable if its version is too old.  A server that does not answer INFO is not checked.
    """
    found = fields_of(reply)
    version = found.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < _OLDEST:
        raise StateUnavailable(f"the Redis server has version {version}: 6.2 is the oldest that works")
    policy, limit = found.get("maxmemory_policy", ""), found.get("maxmemory", "0")
    if limit != "0" and policy not in ("", "noeviction"):
        return (
            f"maxmemory-policy is {policy}: when Redis is full it deletes slots and marks of links, which "
            "lifts limits and lets links work twice: set maxmemory-policy noeviction"
        )
    return ""


def clock_warning(reply: Reply, now: float) -> str:
    """Return a warning if the clock of the server differs from ``now``, given its reply to INFO."""
    text = fields_of(reply).get("server_time_usec", "")
    skew = int(text) / 1e6 - now if text.isdigit() else 0.0
    if abs(skew) <= _MAX_SKEW:
        return ""
    relation = "ahead of" if skew > 0 else "behind"
    return (
        f"the clock of the Redis server is {abs(skew):.0f} s {relation} that of this machine: "
        "links that work once end by it, so synchronize both with NTP"
    )
