"""The files of agents: read, written and compared without trusting whoever made them."""
