"""Implementations of IState: in memory for a process, in SQLite for a machine, in Redis for several."""
