"""How sessions can fail, at each stage: one table, which the tests run and `docs/faults.md` shows."""
