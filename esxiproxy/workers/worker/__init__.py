"""A worker process, which serves the listeners that the master has bound."""
