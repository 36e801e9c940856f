"""The adapter for Claude Code: its command line, its frames, its turns, as an `AgentProcess`."""
