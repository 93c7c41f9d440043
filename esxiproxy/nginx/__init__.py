"""An nginx configuration, and what becomes of it here."""
