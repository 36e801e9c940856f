"""Implementations of `store.Store`, each of some files; all pass `tests/contract/store`."""
