"""The generated API of what agents say and do; `make protos` fills `v1`."""
