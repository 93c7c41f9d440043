"""A simulated vCenter: sessions, inventory, tickets and tags for machines on simulated hosts.

Start one in a Twisted program with `esxiproxy.sim.vcenter.vcenter.SimulatedVCenter`, or alone with
`esxiproxy sim --vcenter`. It answers in the forms of vCenter's own SOAP and REST interfaces.
"""
