"""A plugin of pytest (`-p tests.support.sanitized`) that uses a build with AddressSanitizer and UBSan.

`SANITIZED_PART` is the path of this build of the compiled part.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys

from tests.support.real_reactor import TurnedReactor

_NAME = "esxiproxy.net.transport._compiled"


def _load() -> None:
    assert ctypes.CDLL(None).__asan_init, "the sanitizer's library is not preloaded"
    spec = importlib.util.spec_from_file_location(_NAME, os.environ["SANITIZED_PART"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)


_load()
TurnedReactor.deadline = 60.0  # these builds are slow
