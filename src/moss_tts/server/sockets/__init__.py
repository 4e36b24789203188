"""Sessions over WebSockets: text goes in while sound comes out."""
