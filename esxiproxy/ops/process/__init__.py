"""What concerns the whole process: signals, file descriptors, systemd, threads, the event loop."""
