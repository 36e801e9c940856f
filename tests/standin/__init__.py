"""A stand-in for the Messages API of the model provider, scripted by the prompts it is sent.

Does not know Moorline, but for the language of the simulation's scripts.
"""
