"""What the doctor says: what happened, where, and what to change.  Texts only; nothing here asks anybody."""
