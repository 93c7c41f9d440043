"""Access log, session log and twistd's log."""
