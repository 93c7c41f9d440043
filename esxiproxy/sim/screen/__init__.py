"""The picture of the simulated machine: pixels, text, regions."""
