"""The generated API of errors; `make protos` fills `v1`."""
