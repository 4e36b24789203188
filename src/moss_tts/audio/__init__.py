"""Audio: files, samples as bytes, live output, seams, and matrices of codes."""
