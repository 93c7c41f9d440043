"""Plain HTTP: forwards requests and their responses."""
