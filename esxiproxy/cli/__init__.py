"""The ``esxiproxy`` command: one file a subcommand."""
