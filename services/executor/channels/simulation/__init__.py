"""A simulated Claude Code CLI inside this process, spoken to as the real one is.

Knows the CLI's wire protocol; does not know the adapter that reads it.
"""
