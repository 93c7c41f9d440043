"""Helpers that send an opening handshake and read its answer."""

from tests.net.scene import opening


def status(octets):
    return int(octets.split(b" ", 2)[1])


def fields(octets):
    head = octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [tuple(line.split(b": ", 1)) for line in head[1:]]


def asked(scene, *args, **kwargs):
    scene.client.send(opening(*args, **kwargs))
    scene.pump()
    return scene.request()


def values(found, name):
    return [value for key, value in found if key.lower() == name.lower()]
