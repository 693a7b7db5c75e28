"""Checkpoint formats: a reader gives the units of a file, and the bytes between them."""
