"""The conversion of an nginx configuration to an INI file."""
