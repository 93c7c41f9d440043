"""The machines of vCenter and of ESXi hosts, and the tickets of their consoles."""
