"""Who a client is: each way to prove it is a `Verifier`."""
