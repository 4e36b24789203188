"""Text before it is spoken: clean-up, where it may be cut, and its preparation for checkpoints that ask for it."""
