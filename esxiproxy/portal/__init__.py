"""The page with the machines of a user, its login form, and the API for the portals of others."""
