"""The benchmark: the real three services beside a plain monolith, in one run."""
