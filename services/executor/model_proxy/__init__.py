"""The way of agents to the model: it adds the provider's key, counts, and keeps to budgets.

Agents never see the key. Does not know agents, processes or turns.
"""
