"""The parts that show a running proxy to its operator: logs, an operator shell, the process."""
