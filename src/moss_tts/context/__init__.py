"""Contexts of a generation: keys and values of a batch, in 8 or 4 bit, and those that prompts share."""
