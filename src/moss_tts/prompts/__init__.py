"""Prompts: the options of a request, its messages and references, and how they become rows of a prompt."""
