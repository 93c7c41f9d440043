"""esxiproxy beside nginx, HAProxy and websockify, in one run: `python -m bench`."""
