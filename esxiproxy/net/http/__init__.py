"""Plain HTTP requests and their responses."""
