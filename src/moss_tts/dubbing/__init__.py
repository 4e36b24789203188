"""Subtitles of a film as a spoken track: each cue at its time, in the voice of its speaker."""
