"""The master process, which binds the listeners and starts the workers."""
