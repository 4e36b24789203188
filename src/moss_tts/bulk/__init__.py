"""Many requests at once: jobs from a file, spoken side by side, their results kept."""
