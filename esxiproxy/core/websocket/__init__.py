"""The WebSocket protocol without I/O: handshake, frames, closing."""
