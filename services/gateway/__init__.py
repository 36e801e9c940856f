"""The gateway: clients in, one WebSocket each; keeps nothing that must last."""
