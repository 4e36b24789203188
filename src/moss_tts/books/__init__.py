"""Books: read from .txt, .md and .epub, spoken segment by segment into files that survive a kill."""
