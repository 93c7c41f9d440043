"""The configuration file: its schema, its parser, its checks and its values."""
