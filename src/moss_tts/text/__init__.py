"""Text before it is spoken: clean-up, and where it may be cut."""
