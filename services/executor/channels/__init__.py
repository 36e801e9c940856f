"""The channels: one way each of reaching an agent process. They do not know each other."""
