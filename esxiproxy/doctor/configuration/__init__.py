"""The examination of a configuration: its hosts, certificates, files and limits."""
