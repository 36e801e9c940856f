"""The session service: who talks to which agent, what was said, and what must last."""
