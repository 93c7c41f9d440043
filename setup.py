"""The compiled part and the library of the admin page.  The package is built without them as well."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

HERE = "esxiproxy/net/transport/"
C_FILES = (
    "compiled.c",
    "fast_path.c",
    "epoll_loop.c",
    "registration.c",
    "buffer.c",
    "slots.c",
    "scan_frames.c",
    "scan_body.c",
)


class BuildWithLibrary(build_py):
    """Fetches the front-end library of the admin page before the files of the package are collected."""

    def run(self):
        sys.path.insert(0, str(Path(__file__).parent))
        from esxiproxy.admin.page_library import HOW, fetch
        from esxiproxy.web.npm_files import FetchError

        try:
            fetch()
        except (FetchError, OSError) as error:
            print(
                f"esxiproxy is built without the library of its admin page: {error}\n"
                f"The page says so. To get it later, run: {HOW}",
                file=sys.stderr,
            )
        super().run()


setup(
    cmdclass={"build_py": BuildWithLibrary},
    ext_modules=[
        Extension(
            "esxiproxy.net.transport._compiled",
            [HERE + name for name in C_FILES],
            depends=[HERE + "compiled.h"],
            optional=True,
        )
    ],
)
