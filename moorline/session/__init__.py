"""The generated API of the session service; `make protos` fills `v1`."""
