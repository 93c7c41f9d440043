"""A checked load: consoles and their upstream in one process, where every byte is known beforehand."""
