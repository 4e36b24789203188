"""MossTTSRealtime: a network that reads its text row by row while it speaks, and its loop."""
