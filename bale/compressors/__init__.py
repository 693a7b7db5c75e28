"""Values: what happens to arrays. Pure functions; no files."""
