"""A simulated ESXi host: tickets, TLS, the connection limit and a small console, for tests and the demo.

Start one in a Twisted program with `esxiproxy.sim.host.SimulatedHost`, or alone with
`python -m esxiproxy.sim`. It uses no code of the proxy, so that tests do not repeat a mistake of the proxy.
"""
