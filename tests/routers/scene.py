"""A router that reads a file, with a context whose parts a test sees."""

from twisted.internet.defer import Deferred

from esxiproxy.core.config.plugin_type import settings_of
from esxiproxy.core.config.section import SectionKind
from esxiproxy.core.routing import Principal, Upstream
from tests.support.outcome import result
from tests.support.plugin_context import FakeContext
from tests.support.requests import request

ESX = Upstream("esx", "", 0, secure=True)
ANYONE = Principal("anonymous")


class FileScene:
    """A router of this type with these keys, whose file has this content."""

    def __init__(self, router_type, file, content, template=ESX, /, **texts):
        self.file = file
        self.file.write_text(content)
        self.texts = {"template": "esx", **texts}
        self.settings = settings_of(router_type, SectionKind.ROUTER, self.texts, file.parent)
        self.context = FakeContext(esx=template)
        self.router = router_type.create(self.settings, self.context)

    def begin(self, *asked, **more):
        return Deferred.fromCoroutine(self.router.route(request(*asked, **more), ANYONE))

    def route(self, *asked, **more):
        return result(self.begin(*asked, **more))

    def write(self, content):
        self.file.write_text(content)
        self.context.change()
