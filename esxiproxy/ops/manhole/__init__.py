"""An operator's shell over SSH."""
