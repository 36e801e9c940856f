"""The executor: runs agents. Does not know users, and keeps nothing that must last."""
