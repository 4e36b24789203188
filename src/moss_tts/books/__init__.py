"""Books: read from .txt, .md, .html and .epub, spoken segment by segment into files that survive a kill."""
