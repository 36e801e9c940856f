"""Executors as the session service sees them: where turns run, and how they are reached."""
