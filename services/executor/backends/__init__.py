"""The backends: one way each of running agent processes. They do not know each other."""
