"""Load and upstream in Python, for machines without a compiler, with the command lines of the C programs."""
