"""Weight files: names, layouts, rows, and precision."""
