"""One paper per file, the same names in the same order in each."""
