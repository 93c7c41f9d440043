"""The diagnosis of consoles that do not open: every step of the connection, checked in order."""
