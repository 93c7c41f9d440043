"""What is decided without a network: values, rules and state machines; no Twisted in here."""
