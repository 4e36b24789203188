"""A small voice of MOSS-TTS's architecture, trained from scratch: see README.md."""
