"""Values, rules and state machines without I/O.  Nothing in this package imports Twisted."""
