"""The report of a reading: one HTML file with pictures of its sound, its seams and its speed."""
