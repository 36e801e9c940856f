"""Breaks a running platform in every way we know, and proves that no promise broke.

Real processes and a real database; a history of all that clients sent and saw;
a checker that compares the history with the logs. `python -m tests.nemesis`.
"""
