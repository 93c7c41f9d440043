"""The admin process, which serves [admin] and runs the plugins of ``services``."""
