"""Sounds by diffusion (MOSS-SoundEffect v2): noise becomes a sound in steps, guided by a description."""
