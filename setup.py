"""The one part that is compiled; without a compiler everything is there in Python."""

from setuptools import Extension, setup

HERE = "esxiproxy/net/transport/"

setup(
    ext_modules=[
        Extension(
            "esxiproxy.net.transport._compiled",
            [HERE + name for name in ("compiled.c", "fast_path.c", "epoll_loop.c", "buffer.c")],
            depends=[HERE + "compiled.h"],
            optional=True,
        )
    ]
)
