"""The generated API of the gateway's frames; `make protos` fills `v1`."""
