"""The way of a connection: dispatch, frontend, gateway, backend, relay, on Twisted and Autobahn."""
