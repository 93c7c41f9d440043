"""The configuration file: schema, parser, checks, and the values that come of it."""
