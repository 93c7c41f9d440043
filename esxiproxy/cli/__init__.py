"""The ``esxiproxy`` command: one module for each subcommand."""
