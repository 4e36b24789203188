"""Checkpoints: loading, converting, inspecting and publishing them."""
