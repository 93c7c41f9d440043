"""Implementations of IState, one a file."""
