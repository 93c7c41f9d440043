"""How sessions can fail at each stage: one table for the tests and for `docs/troubleshooting.md`."""
