"""A benchmark of esxiproxy, nginx, HAProxy and websockify: `python -m bench`."""
