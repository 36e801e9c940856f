"""Agents as processes of this machine, without a wall around them.

Does not know what they say.
"""
