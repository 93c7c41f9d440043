"""Load and upstream in Python, for machines without a compiler: the same command lines, slower."""
