"""Moorline's client: talk to your agents from Python."""
