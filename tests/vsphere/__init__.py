"""Tests of the client of vCenter, its inventory and its tickets: in memory, with a fake clock."""
