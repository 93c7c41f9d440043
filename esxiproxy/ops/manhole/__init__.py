"""The manhole: an operator's Python shell in the running process, over SSH."""
