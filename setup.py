"""The one part that is compiled; without a compiler everything is there in Python."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "esxiproxy.net.transport._passage",
            ["esxiproxy/net/transport/passage.c"],
            optional=True,
        )
    ]
)
