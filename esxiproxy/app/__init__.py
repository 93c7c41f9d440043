"""The proxy as a Twisted service: its listeners, its extra services and its reload."""
