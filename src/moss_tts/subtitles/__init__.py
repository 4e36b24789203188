"""Subtitles: when each part of a speech is heard, as a value and as files."""
