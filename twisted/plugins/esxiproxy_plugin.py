"""Makes ``twistd esxiproxy`` known: names of modules only, so that ``twistd --help`` imports none of them."""

from twisted.application.service import ServiceMaker

esxiproxy = ServiceMaker(
    "esxiproxy",
    "esxiproxy.tap",
    "A WebSocket console proxy for VMware ESXi.",
    "esxiproxy",
)
