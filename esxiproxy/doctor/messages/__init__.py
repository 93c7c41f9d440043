"""Messages of the doctor: what happened, where, and what to change."""
