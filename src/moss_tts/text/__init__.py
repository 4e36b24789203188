"""Text before it is spoken: clean-up, places to cut, and preparation for checkpoints that ask for it."""
