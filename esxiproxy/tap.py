"""What ``twistd esxiproxy`` runs."""

from __future__ import annotations

# Every name is looked up with it, and a process that has given root away may not be able to load it any more.
import encodings.idna  # noqa: F401
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python import usage

from esxiproxy.app.preflight import load_checked
from esxiproxy.app.reload import Reload
from esxiproxy.app.service import ProxyService
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.twistd_log import TwistdLog, twistd_log
from esxiproxy.ops.process.clock import make_monotonic
from esxiproxy.ops.process.gc_freeze import GCFreeze
from esxiproxy.ops.process.signals import Signals
from esxiproxy.ops.process.threads import Threads
from esxiproxy.workers.master.master import Master
from esxiproxy.workers.plan import plan_of


class Options(usage.Options):
    """The command line of ``twistd esxiproxy``."""

    synopsis = "[--config FILE]"
    longdesc = "A WebSocket console proxy for VMware ESXi."
    optParameters = [["config", "c", "conf/proxy.ini", "The configuration, an INI file."]]

    def postOptions(self) -> None:
        """Read the file here, so that its problems are a usage error and no traceback."""
        try:
            self["configuration"] = load_checked(self["config"])
        except ConfigError as error:
            raise usage.UsageError("\n" + "\n".join(map(str, error.problems)))
        sys.excepthook = _last_words


class Process(MultiService):
    """All that runs in the process, whose log goes where it keeps nobody waiting."""

    def __init__(self, log: TwistdLog | None) -> None:
        super().__init__()
        self._own_log = log

    def setServiceParent(self, parent: Any) -> None:
        """What the application has as its observer, twistd takes instead of one of its own."""
        super().setServiceParent(parent)
        if self._own_log is not None:
            parent.setComponent(ILogObserver, self._own_log)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the proxy that the configuration describes, with what signals mean to it.

    Without a ``reactor`` it is twistd's, whose timers run on a monotonic clock from then on.
    """
    if reactor is None:
        from twisted.internet import reactor

        make_monotonic(reactor)
    config = options["configuration"]
    path = config.source.absolute()
    service: Any
    reload: Callable[[], object]
    if config.workers > 1:
        service = Master(path, plan_of(config), reactor)
        reload = service.reload
    else:
        service = ProxyService(config, reactor)
        reload = Reload(path, service, reactor)
    log = twistd_log(getattr(options, "parent", None), reactor)
    process = Process(log)
    reopen = (lambda: None) if log is None else log.reopen
    Signals(reactor, reload, service.abort, reopen).setServiceParent(process)
    Threads(reactor).setServiceParent(process)
    service.setServiceParent(process)
    GCFreeze(reactor).setServiceParent(process)
    return process


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the start ends twistd: one line says so, which a traceback would hide."""
    if isinstance(error, StartupError | CannotListenError):
        print(f"esxiproxy: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
