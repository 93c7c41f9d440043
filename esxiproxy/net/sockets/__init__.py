"""Socket options and state: keepalive, TCP_INFO, send queue, lingering close, timers."""
