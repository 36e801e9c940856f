"""The generated API of the executor; `make protos` fills `v1`."""
