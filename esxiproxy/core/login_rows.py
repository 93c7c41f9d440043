"""The place of the portal's logins in the state."""

LOGINS = "logins"
"""The space of the state with the logins, by their ids."""
