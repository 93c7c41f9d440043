"""A router and an authenticator for esxiproxy: clients with an API key get the upstream of their team."""

import hashlib

from zope.interface import implementer

from esxiproxy import AccessDenied, IAuthenticator, IRouter, Principal, Route
from esxiproxy.plugins import AUTHENTICATOR, NAME, ROUTER, BadValue, Key, path, plain


@implementer(IRouter)
class TeamRouter:
    """A router that sends the members of one group to one upstream."""

    def __init__(self, group, upstream):
        self._group = group
        self._route = Route.to(upstream)

    async def route(self, request, principal):
        return self._route if self._group in principal.groups else None


class TeamType:
    """The type ``team``."""

    name = "team"
    help = "Sends the members of one group to one upstream."
    keys = (
        Key("group", ROUTER, plain("text", str), None, "Name of the group.", required=True),
        Key("upstream", ROUTER, NAME, None, "NAME of the upstream of the group.", required=True),
    )

    def conflicts(self, settings, names):
        """Yield an upstream that does not exist, or that has no URL."""
        wanted = settings["upstream"]
        if wanted not in names.upstreams or wanted in names.templates:
            yield "upstream", f"there is no [upstream {wanted}] with a url"

    def create(self, settings, context):
        """Return the router."""
        return TeamRouter(settings["group"], context.upstreams[settings["upstream"]])


ROUTER_TYPE = TeamType()


@implementer(IAuthenticator)
class ApiKeyAuthenticator:
    """An authenticator for clients that send a key in the field ``X-Api-Key``."""

    def __init__(self, clients):
        self._clients = clients

    async def authenticate(self, request):
        key = request.head.value(b"x-api-key")
        if key is None:
            return None
        found = self._clients.get(hashlib.sha256(key).hexdigest())
        if found is None:
            raise AccessDenied("the API key is not known", status=401)
        name, group = found
        return Principal(name, consumed=frozenset({b"x-api-key"}), groups=frozenset({group}))


class ApiKeyType:
    """The type ``api_key``."""

    name = "api_key"
    help = "Knows clients by an API key."
    keys = (
        Key(
            "file",
            AUTHENTICATOR,
            path("file"),
            None,
            "Lines `DIGEST NAME GROUP`, where DIGEST is the SHA-256 of a key. A reload reads it again.",
            required=True,
        ),
    )

    def conflicts(self, settings, names):
        """Yield a mistake in the file."""
        try:
            read_clients(settings["file"])
        except BadValue as error:
            yield "file", str(error)

    def create(self, settings, context):
        """Return the authenticator."""
        return ApiKeyAuthenticator(read_clients(settings["file"]))


def read_clients(file):
    """Return the name and the group of each client by the digest of its key.  Raises BadValue."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadValue(f"cannot be read: {error}") from None
    clients = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or len(words[0]) != 64:
            raise BadValue(f"line {number} is not DIGEST NAME GROUP")
        clients[words[0].lower()] = (words[1], words[2])
    return clients


AUTHENTICATOR_TYPE = ApiKeyType()
