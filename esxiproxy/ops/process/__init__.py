"""The process: signals, descriptors, systemd, event loop."""
