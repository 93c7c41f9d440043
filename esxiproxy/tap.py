"""The plugin of twistd: the command ``twistd esxiproxy``."""

from __future__ import annotations

# Name look-ups need this codec, which may be unreadable for the user to whom twistd switches.
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
from esxiproxy.app.service import ProxyService
from esxiproxy.core.config.loader import ConfigError
from esxiproxy.core.startup import StartupError
from esxiproxy.ops.logs.twistd_log import TwistdLog, twistd_log
from esxiproxy.ops.process.clock import make_monotonic
from esxiproxy.ops.process.gc_freeze import GCFreeze
from esxiproxy.ops.process.orphans import OrphanReaper
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
        """Load the configuration.  Raises UsageError, whose text lists the problems."""
        try:
            self["configuration"] = load_checked(self["config"])
        except ConfigError as error:
            raise usage.UsageError("\n" + "\n".join(map(str, error.problems)))
        sys.excepthook = _print_start_error


class Process(MultiService):
    """The parent of all services of the process, which installs the log observer."""

    def __init__(self, log: TwistdLog | None) -> None:
        super().__init__()
        self._twistd_log = log

    def setServiceParent(self, parent: Any) -> None:
        """Attach to the application, and make twistd use our log observer instead of its own."""
        super().setServiceParent(parent)
        if self._twistd_log is not None:
            parent.setComponent(ILogObserver, self._twistd_log)


def makeService(options: Options, reactor: Any = None) -> IService:
    """Return the service for the configuration: the proxy, or the master of its workers.

    Without ``reactor``, the reactor of twistd is used, and its timers are set to the monotonic clock.
    """
    if reactor is None:
        from twisted.internet import reactor

        make_monotonic(reactor)
    config = options["configuration"]
    service: Any
    reload: Callable[[], object]
    if config.needs_master:
        service = Master(config.source.absolute(), plan_of(config), reactor)
        reload = service.reload
    else:
        service = ProxyService(config, reactor)
        reload = service.reload_file
    log = twistd_log(getattr(options, "parent", None), reactor)
    process = Process(log)
    reopen = (lambda: None) if log is None else log.reopen
    Signals(reactor, reload, service.abort, reopen).setServiceParent(process)
    Threads(reactor).setServiceParent(process)
    OrphanReaper(reactor).setServiceParent(process)
    service.setServiceParent(process)
    GCFreeze(reactor).setServiceParent(process)
    return process


def _print_start_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line instead of a traceback for an error that ends the start."""
    if isinstance(error, StartupError | CannotListenError):
        print(f"esxiproxy: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
