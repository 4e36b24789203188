"""Sessions: text goes in while sound comes out."""
