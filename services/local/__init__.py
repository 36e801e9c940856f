"""Runs the three services on this machine, which is what `make run` does."""
