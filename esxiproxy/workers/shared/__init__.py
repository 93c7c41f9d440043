"""Code that both the master and the workers run."""
