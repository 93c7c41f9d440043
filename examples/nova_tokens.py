"""A service that resolves the console tokens of OpenStack's Nova, for the router `resolver`.

    OS_TOKEN=... python examples/nova_tokens.py --port 8099 --nova http://controller.example.com:8774/v2.1

The router asks it with `url = http://127.0.0.1:8099/consoles/{token}`.  Nova answers a token of the type
`webmks` with the host, the port, and the ticket and the thumbprint of the host's certificate.
"""

import argparse
import json
import os
import sys
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

log = Logger()


def resolved(answer: bytes) -> dict[str, object]:
    """Return the answer for the router from Nova's answer.  Raises ValueError or KeyError for any other."""
    console = json.loads(answer)["console"]
    mks = json.loads(console["internal_access_path"])
    found = {"host": console["host"], "port": int(console["port"]), "path": f"/ticket/{mks['ticket']}"}
    if mks.get("thumbprint"):
        found["pins"] = [f"sha1:{mks['thumbprint'].replace(':', '').lower()}"]
    return found


class Consoles(Resource):
    """/consoles/TOKEN, which is one console."""

    isLeaf = True

    def __init__(self, nova: str, token: str) -> None:
        super().__init__()
        self._nova = nova
        self._headers = Headers({"X-Auth-Token": [token], "X-OpenStack-Nova-API-Version": ["2.31"]})
        self._agent = Agent(reactor, connectTimeout=5)

    def render_GET(self, request):
        asking = Deferred.fromCoroutine(self._answer(request)).addTimeout(10, reactor)
        asking.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request) -> None:
        token = quote(request.postpath[0].decode(), safe="") if len(request.postpath) == 1 else ""
        url = f"{self._nova}/os-console-auth-tokens/{token}".encode()
        answer = await self._agent.request(b"GET", url, self._headers)
        body = await readBody(answer)
        if answer.code == 200:
            request.setHeader(b"content-type", b"application/json")
            request.write(json.dumps(resolved(body)).encode())
        else:
            request.setResponseCode(404 if answer.code == 404 else 502)
        request.finish()

    def _failed(self, failure, request) -> None:
        log.error("Nova cannot be asked: {error}", error=type(failure.value).__name__)
        request.setResponseCode(502)
        request.finish()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--nova", required=True, help="URL of Nova's API, with its version")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])
    root = Resource()
    root.putChild(b"consoles", Consoles(options.nova.rstrip("/"), os.environ["OS_TOKEN"]))
    site = Site(root)
    site.displayTracebacks = False
    site.log = lambda _request: None  # a line would have the token
    port = reactor.listenTCP(options.port, site, interface="127.0.0.1")
    print("tokens are resolved on port", port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
