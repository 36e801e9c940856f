"""The way of agents to the model: it adds the provider's key, counts, and keeps to budgets.

Agents never see the key. Does not know agents, processes or turns.

It speaks the Messages API on both sides and changes nothing but who is asking. Bedrock and Vertex
have other addresses, bodies and streams; a gateway in front of them translates, and is asked in
the provider's place.
"""
