"""Implementations of `store.Store`, one file each; all pass `tests/contract/store`."""
