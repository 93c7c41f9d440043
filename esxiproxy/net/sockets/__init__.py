"""What the kernel knows and does: keepalive, TCP_INFO, lingering close, timers."""
