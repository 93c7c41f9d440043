"""Implementations of IState: in memory for one process, in SQLite for several."""
