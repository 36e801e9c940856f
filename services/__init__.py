"""The three services, what they stand on, and what starts them on one machine."""
