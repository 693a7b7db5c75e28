"""Checkpoint formats: a reader gives the units of a file, and what lies between them."""
