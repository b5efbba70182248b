"""Image files in, results out: one file after the other."""
