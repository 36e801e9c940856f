"""The channel to an agent in a container. Does not know what the lines mean."""
