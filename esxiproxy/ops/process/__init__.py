"""The process as a whole: signals, file descriptors, systemd, threads, the event loop."""
