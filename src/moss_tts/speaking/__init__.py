"""Speaking: rows become frames, frames become audio, and long texts become segments."""
